"""Questions about speed on the machine at hand."""
