"""Many cases with one command."""

from .run import Options, run_batch, to_do

__all__ = ["Options", "run_batch", "to_do"]
