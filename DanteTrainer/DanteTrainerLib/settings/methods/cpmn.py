"""CPMN's settings."""

from __future__ import annotations

from dataclasses import dataclass

from ..method_settings import MethodSettings


@dataclass(frozen=True)
class CpmnSettings(MethodSettings):
    """Only method "cpmn" reads these; the published weights are not known."""

    alignment_weight: float = 0.5
    """Of inter-feature alignment (IFA), between the two networks."""
    discrepancy_weight: float = 0.1
    """Of intra-feature discrepancy (IFD), added up over the two networks."""
