"""What a run gives back: a label map on the reference's own grid, and the report."""

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
        reference: the volume whose grid everything is on.
        modality: its id.
        label_map: uint8 [K, J, I], each region's `label_value`.
        report: volumes, how sure, seconds, device and notes.
        probabilities: if asked for, [R, K, J, I] in the order of `spec.regions`; float32, float16 from another process.
        alignments: of a raw study that was prepared, by modality of what was moved: 4x4 matrices from where a point lay
            to where it belongs, RAS mm.
        brain: of a raw study that was prepared, the mask, uint8 [K, J, I].
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
        """A region's mask, bool [K, J, I]; nested as the regions are (ET in TC in WT)."""
        return mask_of(self.label_map, self.spec.region(region), self.spec.regions)

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """All masks by region id."""
        return {region.id: self.mask(region.id) for region in self.spec.regions}

    @property
    def volumes_ml(self) -> dict[str, float]:
        """By region id."""
        return self.report.volumes_ml

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        return self.report.notes

    @property
    def device(self) -> str:
        """Where the network ran, and in which number format."""
        return self.report.device
