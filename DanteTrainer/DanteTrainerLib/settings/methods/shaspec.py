"""ShaSpec's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from DanteSegmenterLib.model_folder.architectures import AVERAGE_PRESENT, FIRST_PRESENT, ShaSpecOptions

from ..method_settings import MethodSettings

SUBSTITUTES = {"first": FIRST_PRESENT, "average": AVERAGE_PRESENT}


@dataclass(frozen=True)
class ShaSpecSettings(MethodSettings):
    """Only read by method "shaspec"; the defaults are those of the published code."""

    LIMITS: ClassVar[Mapping[str, tuple[float, float]]] = {"drop_from": (0, 1)}
    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"substitute": tuple(SUBSTITUTES)}
    similarity_weight: float = 0.1
    """Weight of the distance between the shared features of neighbouring modalities."""
    domain_weight: float = 0.02
    """Weight of classifying the modality from its specific features."""
    substitute: str = "first"
    """Replacement for a missing modality's features: the shared features of the "first" present modality, as in the
    published code, or the "average" over the present ones, as in the paper."""
    drop_from: float = 0.2
    """Share of the steps at the start during which no modality is dropped."""

    @property
    def options(self) -> ShaSpecOptions:
        """The network's options, as written to the model folder."""
        return ShaSpecOptions(SUBSTITUTES[self.substitute])

    @property
    def dropping_share(self) -> float:
        return 1.0 - self.drop_from
