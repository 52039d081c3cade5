"""Planning: actions chosen by what the dream makes of them."""
