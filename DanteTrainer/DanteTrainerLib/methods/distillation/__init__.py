"""Methods whose network on X^L learns from one that reads X^F."""
