"""Stages of training, from episodes to a world model, and whether what came of them is right."""
