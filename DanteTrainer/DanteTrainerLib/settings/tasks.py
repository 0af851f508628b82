"""Segmentation tasks: modalities, regions and their terminology, as written to a model's `model.json`."""

from __future__ import annotations

from dataclasses import dataclass

from DanteSegmenterLib.model_folder import Modality, Normalisation, Region
from DanteSegmenterLib.model_folder.terminology import Code, Terminology


@dataclass(frozen=True)
class Task:
    """A segmentation task and the data it needs.

    Attributes:
        id: "brain" or "chest".
        modalities: all modalities (X^F), in channel order.
        privileged: id of the modality missing at deployment (X^P); the others are X^L.
        regions: what is segmented; where regions nest, the larger comes first.
        output: "regions" (one sigmoid each) or "labels" (softmax).
        orientation: of the network's grid.
        normalisation: by modality id.
    """

    id: str
    modalities: tuple[Modality, ...]
    privileged: str
    regions: tuple[Region, ...]
    output: str
    orientation: str
    normalisation: dict[str, Normalisation]

    @property
    def full(self) -> tuple[str, ...]:
        """Modality ids of X^F, in channel order."""
        return tuple(modality.id for modality in self.modalities)

    @property
    def limited(self) -> tuple[str, ...]:
        """Modality ids of X^L, in channel order."""
        return tuple(modality for modality in self.full if modality != self.privileged)

    @property
    def outputs(self) -> int:
        """Number of logit channels: one per region, plus the background if `output` is "labels"."""
        return len(self.regions) + (self.output == "labels")

    @property
    def limited_channels(self) -> list[int]:
        """Channel indices of X^L within X^F."""
        return [n for n, modality in enumerate(self.full) if modality != self.privileged]


def _sct(value: str, meaning: str) -> Code:
    return Code("SCT", value, meaning)


_ABNORMAL = _sct("49755003", "Morphologically Altered Structure")
_BRAIN = _sct("12738006", "Brain")


def _brain_region(
    id: str, name: str, color: tuple[float, float, float], kind: Code, labels: tuple[int, ...], value: int
) -> Region:
    return Region(id, name, color, Terminology(_ABNORMAL, kind, _BRAIN), labels, value)


BRAIN = Task(
    id="brain",
    modalities=(
        Modality("t1", "T1"),
        Modality("t1ce", "T1 contrast"),
        Modality("t2", "T2"),
        Modality("flair", "FLAIR"),
    ),
    privileged="t1ce",
    # Written into a label map in this order: oedema, the core inside it, the enhancing part inside that (BraTS labels).
    regions=(
        _brain_region("WT", "Whole tumour", (0.30, 0.69, 0.31), _sct("108369006", "Neoplasm"), (1, 2, 4), 2),
        _brain_region("TC", "Tumour core", (1.0, 0.76, 0.03), _sct("86049000", "Neoplasm, Primary"), (1, 4), 1),
        _brain_region("ET", "Enhancing tumour", (0.90, 0.22, 0.21), _sct("86049000", "Neoplasm, Primary"), (4,), 4),
    ),
    output="regions",
    orientation="LPS",
    normalisation={id: Normalisation("zscore_nonzero") for id in ("t1", "t1ce", "t2", "flair")},
)

CHEST = Task(
    id="chest",
    modalities=(Modality("nct", "CT"), Modality("ctpa", "CT with contrast")),
    privileged="ctpa",
    regions=(
        Region(
            "PE",
            "Pulmonary embolism",
            (0.90, 0.22, 0.21),
            Terminology(_ABNORMAL, _sct("55584005", "Embolus"), _sct("81040000", "Pulmonary artery")),
            (1,),
            1,
        ),
    ),
    output="labels",
    orientation="LPS",
    # Without contrast a clot is only 10 to 30 HU denser than blood, so the window is narrow. With -160 to 240, where
    # air takes up most of the range, networks learn far less (RESULTS.md).
    normalisation={
        "nct": Normalisation("ct_window", low=-20, high=120, mean=45, std=25),
        "ctpa": Normalisation("ct_window", low=-160, high=560, mean=200, std=150),
    },
)

TASKS = {task.id: task for task in (BRAIN, CHEST)}
