"""What else a log or real steps could be used for: cloning, learning offline, learning in the twin itself."""
