"""Network architectures of model folders. torch."""
