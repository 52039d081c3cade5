"""Planted faults that tests must notice: ``python -m tests.mutants``, or ``make mutants``."""
