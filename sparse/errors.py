"""The one exception of the sparse library."""


class SparseError(ValueError):
    """What was wrong with a block-sparse operand or layer, where, and what to do about it."""
