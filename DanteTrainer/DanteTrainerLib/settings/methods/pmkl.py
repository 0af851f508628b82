"""PMKL's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..method_settings import MethodSettings


@dataclass(frozen=True)
class PmklSettings(MethodSettings):
    """Only method "pmkl" reads these; the defaults are the published ones. What has weight 0 is not computed."""

    POSITIVE: ClassVar = ("temperature",)

    kd_weight: float = 0.5
    """Of the teacher's soft labels, where it knows better."""
    contrast_weight: float = 0.5
    """Of the contrast between images; with 0 a teacher of any architecture will do."""
    temperature: float = 10.0
    """Of the soft labels."""
    margin: float = 1.0
    """Distance on the unit sphere that two images' embeddings shall have."""
    head_rate: float = 0.01
    """Learning rate of the contrast's heads, as a share of the networks'. The published 1e-3 with momentum 0.9 moves a
    weight as far in the long run as a hundredth of 1e-2 with 0.99; at the full rate the heads say the same of all."""
