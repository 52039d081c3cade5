"""MuJoCo behind the same spaces: the twin that every dream is judged by."""
