"""What a run found and how, in numbers and sentences: the same in memory, on the wire, in tables, CSV and JSON."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import SegmentOptions


@dataclass(frozen=True)
class Finding:
    """What was found of one region.

    Attributes:
        region: its id.
        volume_ml: of its mask.
        low_ml, high_ml: what it would measure at a strict and at a lenient threshold (`regions.volume_range_ml`).
        confidence: mean shown probability inside the mask, 0 to 1; None of an empty mask.
    """

    region: str
    volume_ml: float
    low_ml: float
    high_ml: float
    confidence: float | None = None


@dataclass(frozen=True)
class Report:
    """What a run found, with what it was made.

    Attributes:
        model: its name.
        version: of the model.
        weights: the first digits of the SHA-256 of the weights that were used.
        options: what was asked for.
        findings: one a region, in the model's order.
        seconds: by phase.
        device: where the network ran, and in which number format.
        notes: what the user should know.
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
        """What was found of a region.

        Raises:
            KeyError: the model does not know it.
        """
        for finding in self.findings:
            if finding.region == region:
                return finding
        raise KeyError(region)

    @property
    def volumes_ml(self) -> dict[str, float]:
        """By region id."""
        return {finding.region: finding.volume_ml for finding in self.findings}

    @property
    def total_seconds(self) -> float:
        """Of all phases."""
        return sum(self.seconds.values())
