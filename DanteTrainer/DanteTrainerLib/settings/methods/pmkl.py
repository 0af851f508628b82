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
