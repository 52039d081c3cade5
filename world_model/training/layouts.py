"""Layers, width and heads of the large presets, by name: one dial for both families.

Source: Cosmos-Predict1-7B (arXiv 2501.03575, table 11) and Cosmos-Predict2-2B (its released configuration).
"""

from typing import NamedTuple


class Layout(NamedTuple):
    """A transformer's size."""

    layers: int
    width: int
    heads: int


LAYOUTS = {"2b": Layout(28, 2048, 16), "7b": Layout(28, 4096, 32)}
