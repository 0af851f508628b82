"""A model in the formats of others: an ONNX file, a MONAI bundle. torch."""
