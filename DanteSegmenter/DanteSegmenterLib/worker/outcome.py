"""What a run in the warm process tells while it goes on, and what it ends with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import DanteError
from ..model_folder.spec import ModelSpec
from ..volume import Volume


class WorkerDied(DanteError):
    """The inference process ended while it was needed; the next run starts a new one."""


@dataclass(frozen=True)
class RunProgress:
    """How far a run is: phase, share done 0 to 1, words for the user, and seconds left where they can be told."""

    phase: str
    fraction: float
    message: str
    seconds_left: float | None = None


@dataclass(frozen=True, eq=False)
class RunResult:
    """What a run found, on the grid of `reference`; see `inference.Segmentation`.

    Of a run that prepared the study: `brain`, the mask uint8 [K, J, I]; `alignments`, by modality of what was moved,
    4x4 matrices from where a point lay to where it belongs, RAS mm.
    """

    spec: ModelSpec
    reference: Volume
    label_map: np.ndarray
    masks: dict[str, np.ndarray]
    volumes_ml: dict[str, float]
    confidence: dict[str, float]
    volume_ranges_ml: dict[str, tuple[float, float]]
    seconds: dict[str, float]
    device: str
    notes: tuple[str, ...]
    probabilities: np.ndarray | None = None  # float16 [R, K, J, I] if asked for
    alignments: dict[str, np.ndarray] = field(default_factory=dict)
    brain: np.ndarray | None = None
