"""Evaluation of a model on the cases of a split."""
