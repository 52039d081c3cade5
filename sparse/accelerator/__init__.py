"""The Procrustes accelerator (arXiv 2009.10976) as a model: cycles and energy of training a network sparsely."""
