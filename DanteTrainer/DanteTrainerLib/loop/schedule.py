"""Learning rate as a pure function of the step."""

from __future__ import annotations


def poly(step: int, steps: int, initial: float, exponent: float = 0.9) -> float:
    """initial * (1 - step / steps)^exponent, nnU-Net's schedule taken step by step; steps count from 0."""
    return initial * (1 - step / steps) ** exponent
