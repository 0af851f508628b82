"""Segment many cases with one command."""

from .case import Options, Outcome
from .run import run_batch, to_do

__all__ = ["Options", "Outcome", "run_batch", "to_do"]
