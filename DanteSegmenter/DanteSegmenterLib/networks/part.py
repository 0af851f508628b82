"""The parts that networks are made of."""

from __future__ import annotations

import torch
from torch import nn


class Part(nn.Module):
    """Maps of one size in, maps of one size out, and no decision in between: what training compiles as a whole."""


def is_recorded() -> bool:
    """Whether a network is being written down (compiled, exported, traced) and not only computed with.

    Then it has to be made of PyTorch's plain operations: whoever reads the record makes them fast.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
