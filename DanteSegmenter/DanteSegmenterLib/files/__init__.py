"""Read and write image files and segmentations."""

from ..guard.atomic import write_atomically
from .images import read_volume, write_components, write_segmentation, write_volume

__all__ = ["read_volume", "write_atomically", "write_components", "write_segmentation", "write_volume"]
