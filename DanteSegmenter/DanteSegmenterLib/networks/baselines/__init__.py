"""Architectures of the methods that DANTE is compared with."""
