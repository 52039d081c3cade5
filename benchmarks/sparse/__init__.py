"""Questions about sparse training, its kernels and its accelerator."""
