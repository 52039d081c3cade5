"""NVIDIA's published Cosmos models: the same architectures, weights and numbers, read from the folders they come in."""
