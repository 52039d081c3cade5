"""The questions of benchmarks/accelerator.py, one a file."""
