"""RobustSeg's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..method_settings import MethodSettings


@dataclass(frozen=True)
class RobustSegSettings(MethodSettings):
    """Only method "robustseg" reads these; the defaults are the published ones."""

    MOVING: ClassVar = ("weight_decay",)
    UNREAD: ClassVar = ("optimiser.weight_decay",)

    reconstruction_weight: float = 0.1
    """Of the absolute error of every modality's reconstruction."""
    kl_weight: float = 0.1
    """Of the divergence of the style parameters from a standard normal distribution."""
    weight_decay: float = 1e-4
    """L2 on all parameters, instead of `optimiser.weight_decay`."""

    @property
    def dropping_share(self) -> float:
        return 1.0
