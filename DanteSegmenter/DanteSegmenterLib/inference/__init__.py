"""A model and loaded volumes -> a segmentation. torch."""

from .segmenting import Model, batch_of, label_map_of, load_model, mask_of, probabilities_of, segment

__all__ = ["batch_of", "label_map_of", "load_model", "mask_of", "Model", "probabilities_of", "segment"]
