"""MMANet's settings."""

from __future__ import annotations

from dataclasses import dataclass

from ..method_settings import MethodSettings


@dataclass(frozen=True)
class MmanetSettings(MethodSettings):
    """Only read by method "mmanet"; the defaults are the published ones for NYUv2."""

    kd_weight: float = 4.0
    """Weight of margin-aware distillation (MAD)."""
    weak_weight: float = 0.2
    """Weight of the auxiliary decoder's loss on the weak combination of modalities (MAR)."""

    @property
    def dropping_share(self) -> float:
        return 1.0
