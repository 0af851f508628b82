"""Synthetic patients with ground truth."""
