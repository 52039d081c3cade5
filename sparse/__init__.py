"""Block-sparse training from the first step, after Procrustes (arXiv 2009.10976): numpy, torch and cupy only."""
