"""Real experience: behaviour policies played in a truth env, by several processes, into a dataset."""
