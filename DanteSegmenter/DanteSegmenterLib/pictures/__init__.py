"""Render results as PNG pictures."""
