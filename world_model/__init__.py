"""Learns to predict video from logged episodes: tokenizers, dynamics, training, checkpoints."""
