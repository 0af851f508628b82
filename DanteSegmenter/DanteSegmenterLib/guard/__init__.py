"""Texts of others as they may be shown, and folders replaced without loss."""
