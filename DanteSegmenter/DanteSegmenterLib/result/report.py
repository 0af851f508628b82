"""Findings of a run and how it was made; the same data in memory, between processes, in tables, CSV and JSON."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import SegmentOptions


@dataclass(frozen=True)
class Finding:
    """Findings for one region.

    Attributes:
        region: id of the region.
        volume_ml: volume of its mask.
        low_ml, high_ml: volume at a strict and at a lenient threshold (`regions.volume_range_ml`).
        confidence: mean scaled probability inside the mask, 0 to 1; None for an empty mask.
    """

    region: str
    volume_ml: float
    low_ml: float
    high_ml: float
    confidence: float | None = None


@dataclass(frozen=True)
class Report:
    """Findings of a run, and how they were made.

    Attributes:
        model: name of the model.
        version: of the model.
        weights: first digits of the SHA-256 of the weights used.
        options: options of the run.
        findings: one per region, in the model's order.
        seconds: duration by phase.
        device: device and precision of the network.
        notes: messages for the user.
    """

    model: str
    version: str
    weights: str
    options: SegmentOptions
    findings: tuple[Finding, ...]
    seconds: dict[str, float]
    device: str
    notes: tuple[str, ...] = ()

    def finding(self, region: str) -> Finding:
        """The findings for a region.

        Raises:
            KeyError: the model does not have it.
        """
        for finding in self.findings:
            if finding.region == region:
                return finding
        raise KeyError(region)

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volumes by region id."""
        return {finding.region: finding.volume_ml for finding in self.findings}

    @property
    def total_seconds(self) -> float:
        """Duration of all phases."""
        return sum(self.seconds.values())
