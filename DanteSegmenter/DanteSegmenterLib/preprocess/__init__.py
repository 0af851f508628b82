"""From loaded volumes to network input, and exactly back."""

from .preparing import normalise, prepare, reorient, resample

__all__ = ["normalise", "prepare", "reorient", "resample"]
