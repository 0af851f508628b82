"""CMFD's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..method_settings import MethodSettings


@dataclass(frozen=True)
class CmfdSettings(MethodSettings):
    """Only method "cmfd" reads these; the defaults are of our reading. What has weight 0 is not computed."""

    POSITIVE: ClassVar = ("temperature",)

    kd_weight: float = 0.5
    """Of the teacher's soft labels."""
    feature_weight: float = 0.5
    """Of the teacher's feature maps; with 0 a teacher of any architecture will do."""
    temperature: float = 2.0
    """Of the soft labels."""
