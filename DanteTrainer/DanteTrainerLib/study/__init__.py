"""Studies: several methods or settings trained and compared."""
