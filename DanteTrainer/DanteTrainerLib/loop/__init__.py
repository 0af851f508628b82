"""The training loop shared by all methods, and the parts of a training step."""
