"""Deployed half of SlicerDANTE: runs the networks of a model folder; knows nothing of Slicer or of training."""

__version__ = "0.1.0"
