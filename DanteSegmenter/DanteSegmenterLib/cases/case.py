"""A patient's images, and what the numbers in their mask mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.images import read_volume
from ..volume import Volume


@dataclass(frozen=True)
class ImageSource:
    """A volume in a file; `component` picks one of a 4-D file."""

    path: Path
    component: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is read."""
        return (self.path,)

    def read(self) -> Volume:
        return read_volume(self.path, component=self.component)


@dataclass(frozen=True)
class SeveralMasks:
    """More masks than one: which of them is the expert's is not ours to choose."""

    case: str
    names: tuple[str, ...]
    component: None = None

    @property
    def problem(self) -> str:
        return f"'{self.case}' holds {len(self.names)} masks: {', '.join(self.names)}. Keep the expert's alone"

    @property
    def path(self) -> Path:
        """
        Raises:
            InputError: always; names them.
        """
        raise InputError(f"{self.problem}.")

    def read(self) -> Volume:
        """
        Raises:
            InputError: always; names them.
        """
        raise InputError(f"{self.problem}.")


@dataclass(frozen=True)
class Case:
    """A patient's images.

    Attributes:
        name: the folder's; of a time point in a patient's folder, the patient's and its own.
        images: by modality id.
        label: the expert mask, if there is one.
        regions: region id -> integer labels in this mask; empty if their meaning is not known.
        group: for stratified splits, e.g. "HGG"; empty if there are none.
        outside: labels that are known and belong to no region, e.g. a resection cavity.
        remark: what a user should know of these labels: whose they are, or why their meaning is not known.
        problem: why the case cannot be used at all; empty if it can.
        held_apart: the data set itself keeps it for tests (imagesTs).
    """

    name: str
    images: dict[str, ImageSource]
    label: ImageSource | SeveralMasks | None
    regions: dict[str, tuple[int, ...]]
    group: str = ""
    outside: tuple[int, ...] = ()
    remark: str = ""
    problem: str = ""
    held_apart: bool = False

    def read_images(self) -> dict[str, Volume]:
        return {modality: source.read() for modality, source in self.images.items()}

    def mask_problem(self) -> str:
        """Why the mask cannot be used, as far as names tell; empty if it can."""
        if self.label is None:
            return f"'{self.name}' has no mask (a file *_seg or *-seg; with a dataset.json, one in labelsTr)"
        if isinstance(self.label, SeveralMasks):
            return self.label.problem
        return "" if self.regions else f"'{self.name}': {self.remark or 'the meaning of its labels is not known'}"

    def check_labels(self, mask: Volume) -> None:
        """Refuse a mask whose numbers would be read wrongly.

        Raises:
            InputError: it holds labels that its naming does not know, or the naming itself is not known.
        """
        if self.mask_problem():
            raise InputError(f"case {self.mask_problem()}.")
        allowed = {0, *self.outside, *(value for values in self.regions.values() for value in values)}
        strange = [value for value in np.unique(mask.array).tolist() if value not in allowed]
        if strange:
            raise InputError(
                f"the mask '{mask.name}' holds the labels {[f'{v:g}' for v in strange[:5]]}; this naming knows "
                f"{sorted(allowed)}. Is it another data set's mask, or was it resampled with interpolation? Where "
                "these are its labels, a file labels.json beside the cases says what they mean."
            )
