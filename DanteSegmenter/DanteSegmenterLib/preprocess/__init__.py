"""Convert loaded volumes to network input, and results exactly back."""

from .normalising import Background, background_of, normalise
from .preparing import prepare, reorient
from .resampling import resample

__all__ = ["Background", "background_of", "normalise", "prepare", "reorient", "resample"]
