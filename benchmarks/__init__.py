"""Questions with numbers; results/*.json hold every answer."""
