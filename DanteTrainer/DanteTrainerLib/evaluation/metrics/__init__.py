"""Scores of one region in one case, and their means over cases."""
