"""Segment loaded volumes with a model. torch."""

from ..options import SegmentOptions
from ..result.regions import label_map_of, mask_of
from .segmenting import Model, batch_of, load_model, probabilities_of, segment

__all__ = [
    "batch_of",
    "label_map_of",
    "load_model",
    "mask_of",
    "Model",
    "probabilities_of",
    "segment",
    "SegmentOptions",
]
