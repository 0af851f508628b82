"""A vision transformer with and without masked pre-training: UNETR on X^L."""
