"""The parts that networks are made of."""

from __future__ import annotations

import torch
from torch import nn


class Part(nn.Module):
    """A module without data-dependent branches, whose output has its input's size: training compiles it as a whole."""


def is_traced() -> bool:
    """Whether a network is being compiled, exported or traced, not only run.

    It must then use plain PyTorch operations: the compiler makes these fast itself.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
