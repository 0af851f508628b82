"""Export a model to other formats: an ONNX file, a MONAI bundle. torch."""
