"""Several methods or settings, trained and compared."""
