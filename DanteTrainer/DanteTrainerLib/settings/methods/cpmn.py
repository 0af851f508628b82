"""CPMN's settings."""

from __future__ import annotations

from dataclasses import dataclass

from ..method_settings import MethodSettings


@dataclass(frozen=True)
class CpmnSettings(MethodSettings):
    """Only read by method "cpmn"; the published weights are not known."""

    alignment_weight: float = 0.5
    """Weight of inter-feature alignment (IFA) between the two networks."""
    discrepancy_weight: float = 0.1
    """Weight of intra-feature discrepancy (IFD), summed over the two networks."""
