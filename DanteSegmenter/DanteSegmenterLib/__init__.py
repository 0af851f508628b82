"""Deployed half of SlicerDANTE: segments with the limited-modality network; knows nothing of Slicer or of training."""

__version__ = "0.1.0"
