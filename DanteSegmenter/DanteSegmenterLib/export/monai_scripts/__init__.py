"""Scripts shipped in a bundle: transforms that MONAI lacks. Depends only on PyTorch and MONAI."""
