"""The networks that a model folder holds weights of. torch."""
