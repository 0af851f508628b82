"""Image files and segmentations, read and written."""

from .images import read_volume, write_atomically, write_components, write_segmentation, write_volume

__all__ = ["read_volume", "write_atomically", "write_components", "write_segmentation", "write_volume"]
