"""A patient's images, and the meaning of their mask's labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.images import read_volume
from ..volume import Volume


@dataclass(frozen=True)
class ImageSource:
    """A volume in a file; `component` selects one of a 4-D file."""

    path: Path
    component: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read."""
        return (self.path,)

    def read(self) -> Volume:
        return read_volume(self.path, component=self.component)


@dataclass(frozen=True)
class SeveralMasks:
    """Several masks, from which we must not choose the expert's."""

    case: str
    names: tuple[str, ...]
    component: None = None

    @property
    def problem(self) -> str:
        return f"'{self.case}' holds {len(self.names)} masks: {', '.join(self.names)}. Keep the expert's alone"

    @property
    def path(self) -> Path:
        """The path, if there were a single mask.

        Raises:
            InputError: always; names the masks.
        """
        raise InputError(f"{self.problem}.")

    def read(self) -> Volume:
        """The mask, if there were a single one.

        Raises:
            InputError: always; names the masks.
        """
        raise InputError(f"{self.problem}.")


@dataclass(frozen=True)
class Case:
    """A patient's images.

    Attributes:
        name: the folder's name; for a time point in a patient's folder, both names.
        images: by modality id.
        label: the expert's mask, if there is one.
        regions: region id -> integer labels in this mask; empty if their meaning is unknown.
        group: for stratified splits, e.g. "HGG"; empty if there are none.
        outside: known labels that belong to no region, e.g. a resection cavity.
        remark: note on these labels for the user: their label scheme, or why their meaning is unknown.
        problem: why the case cannot be used; empty if it can.
        held_apart: the dataset reserves it for testing (imagesTs).
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
        """Why the mask cannot be used, as far as names show; empty if it can."""
        if self.label is None:
            return f"'{self.name}' has no mask (a file *_seg or *-seg; with a dataset.json, one in labelsTr)"
        if isinstance(self.label, SeveralMasks):
            return self.label.problem
        return "" if self.regions else f"'{self.name}': {self.remark or 'the meaning of its labels is not known'}"

    def check_labels(self, mask: Volume) -> None:
        """Refuse a mask whose labels would be misinterpreted.

        Raises:
            InputError: it has labels unknown to its label scheme, or the label scheme is unknown.
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
