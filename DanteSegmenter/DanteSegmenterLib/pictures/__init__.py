"""Results as PNG pictures."""
