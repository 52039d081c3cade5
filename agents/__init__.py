"""Reinforcement learning on any registered id."""
