"""Deployed half of SlicerDANTE: runs the networks of a model folder. Independent of Slicer and of training."""

__version__ = "0.1.0"
