"""Methods whose network on X^L learns from one that sees X^F."""
