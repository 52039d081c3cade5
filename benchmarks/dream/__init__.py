"""Questions about world models and the policies trained in them."""
