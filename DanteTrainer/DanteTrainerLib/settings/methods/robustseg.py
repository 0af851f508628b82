"""RobustSeg's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..method_settings import MethodSettings


@dataclass(frozen=True)
class RobustSegSettings(MethodSettings):
    """Only read by method "robustseg"; the defaults are the published ones."""

    CHANGEABLE: ClassVar = ("weight_decay",)
    IGNORED: ClassVar = ("optimiser.weight_decay",)

    reconstruction_weight: float = 0.1
    """Weight of the L1 reconstruction error, summed over modalities."""
    kl_weight: float = 0.1
    """Weight of the KL divergence of the style parameters from a standard normal distribution."""
    weight_decay: float = 1e-4
    """L2 penalty on all parameters, in place of `optimiser.weight_decay`."""

    @property
    def dropping_share(self) -> float:
        return 1.0
