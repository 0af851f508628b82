"""What a bundle brings along: the parts of a run that MONAI has no transform for. Knows PyTorch and MONAI alone."""
