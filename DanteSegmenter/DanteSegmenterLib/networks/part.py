"""The parts that networks are made of."""

from __future__ import annotations

from torch import nn


class Part(nn.Module):
    """Maps of one size in, maps of one size out, and no decision in between: what training compiles as a whole."""
