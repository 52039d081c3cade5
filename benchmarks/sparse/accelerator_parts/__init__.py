"""The questions of benchmarks/sparse/accelerator.py, one a file."""
