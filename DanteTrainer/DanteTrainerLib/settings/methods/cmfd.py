"""CMFD's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..method_settings import MethodSettings


@dataclass(frozen=True)
class CmfdSettings(MethodSettings):
    """Only read by method "cmfd"; the defaults are our own choice. Terms with weight 0 are not computed."""

    POSITIVE: ClassVar = ("temperature",)

    kd_weight: float = 0.5
    """Weight of the distillation from the teacher's soft labels."""
    feature_weight: float = 0.5
    """Weight of feature distillation; with 0 the teacher may have any architecture."""
    temperature: float = 2.0
    """Temperature of the soft labels."""
