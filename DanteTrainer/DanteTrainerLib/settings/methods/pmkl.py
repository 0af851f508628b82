"""PMKL's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..method_settings import MethodSettings


@dataclass(frozen=True)
class PmklSettings(MethodSettings):
    """Only read by method "pmkl"; the defaults are the published ones. Terms with weight 0 are not computed."""

    POSITIVE: ClassVar = ("temperature",)

    kd_weight: float = 0.5
    """Weight of the distillation from the teacher's soft labels, where its prediction is better."""
    contrast_weight: float = 0.5
    """Weight of the contrastive term; with 0 the teacher may have any architecture."""
    temperature: float = 10.0
    """Temperature of the soft labels."""
    margin: float = 1.0
    """Minimum distance on the unit sphere between the embeddings of different images."""
    head_rate: float = 0.01
    """Learning rate of the contrastive heads relative to the networks'. A hundredth of 1e-2 with momentum 0.99 gives
    the same long-run step as the published 1e-3 with 0.9; at the full rate the heads collapse to a constant."""
