"""Base class of network parts."""

from __future__ import annotations

import torch
from torch import nn


class Part(nn.Module):
    """A module without data-dependent control flow and with fixed shapes, which training compiles as a whole."""


def is_traced() -> bool:
    """Whether the network is being compiled, exported or traced rather than just run.

    It must then use plain PyTorch operations, which the compiler optimises itself.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
