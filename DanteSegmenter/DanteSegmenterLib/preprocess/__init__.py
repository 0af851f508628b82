"""From loaded volumes to network input, and exactly back."""

from .prepare import normalise, prepare, reorient, resample

__all__ = ["normalise", "prepare", "reorient", "resample"]
