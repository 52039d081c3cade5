"""What is refused before a world model dreams, and what is looked for in its dreams; where a check fails, all stops."""
