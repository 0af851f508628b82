"""Result of a run: a label map on the reference's own grid, and the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..model_folder.spec import ModelSpec
from ..volume import Volume
from .regions import mask_of
from .report import Report


@dataclass(frozen=True, eq=False)
class Result:
    """A segmentation on the grid of `reference`.

    Attributes:
        spec: the model's description.
        reference: the volume that defines the grid.
        modality: its id.
        label_map: uint8 [K, J, I], each region's `label_value`.
        report: volumes, confidence, timings, device and notes.
        probabilities: if requested, [R, K, J, I] in the order of `spec.regions`; float32, or float16 from another
            process.
        alignments: for a prepared raw study, by modality id of each registered volume: 4x4 matrices from original to
            aligned positions, RAS mm.
        brain: for a prepared raw study, the brain mask, uint8 [K, J, I].
    """

    spec: ModelSpec
    reference: Volume
    modality: str
    label_map: np.ndarray
    report: Report
    probabilities: np.ndarray | None = None
    alignments: dict[str, np.ndarray] = field(default_factory=dict)
    brain: np.ndarray | None = None

    def mask(self, region: str) -> np.ndarray:
        """A region's mask, bool [K, J, I]; nested like the regions (ET in TC in WT)."""
        return mask_of(self.label_map, self.spec.region(region), self.spec.regions)

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """All masks by region id."""
        return {region.id: self.mask(region.id) for region in self.spec.regions}

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volumes by region id."""
        return self.report.volumes_ml

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages for the user."""
        return self.report.notes

    @property
    def device(self) -> str:
        """Device and precision of the network."""
        return self.report.device
