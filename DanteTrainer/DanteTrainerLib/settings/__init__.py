"""Experiment and task settings, as dataclasses."""
