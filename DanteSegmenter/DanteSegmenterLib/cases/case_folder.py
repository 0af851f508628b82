"""One patient's folder of image files -> which file is which modality, in the namings users have. No torch.

    BraTS 2018-2021   <any>_{t1,t1ce,t2,flair,seg}.nii[.gz]      labels 1 necrotic, 2 oedema, 4 enhancing
    BraTS 2023        <any>-{t1n,t1c,t2w,t2f,seg}.nii[.gz]       labels 1 necrotic, 2 oedema, 3 enhancing
    paired chest CT   {nct,ctpa,label}.nii[.gz]                  label 1 embolism

One file of BraTS 2020 (case 355) names its mask W39_1998.09.19_Segm.nii; that is known too. Masks are optional.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files.images import read_volume
from ..volume import Volume

ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class ImageSource:
    """A volume in a file; `component` picks one of a 4-D file."""

    path: Path
    component: int | None = None

    def read(self) -> Volume:
        return read_volume(self.path, component=self.component)


@dataclass(frozen=True)
class Naming:
    """How a data set names its files and labels.

    Attributes:
        title: for messages.
        modalities: file name's last part -> modality id.
        masks: last parts of the mask's name, the usual one first.
        regions: region id -> integer labels that make it up.
    """

    title: str
    modalities: dict[str, str]
    masks: tuple[str, ...]
    regions: dict[str, tuple[int, ...]]


BRATS_2018 = Naming(
    "BraTS 2018-2021 (_t1, _t1ce, _t2, _flair)",
    {"t1": "t1", "t1ce": "t1ce", "t2": "t2", "flair": "flair"},
    ("seg", "segm"),
    {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)},
)
BRATS_2023 = Naming(
    "BraTS 2023 (-t1n, -t1c, -t2w, -t2f)",
    {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"},
    ("seg",),
    {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)},
)
CHEST_CT = Naming("paired chest CT (nct, ctpa)", {"nct": "nct", "ctpa": "ctpa"}, ("label", "seg"), {"PE": (1,)})
NAMINGS = (BRATS_2018, BRATS_2023, CHEST_CT)


@dataclass(frozen=True)
class Case:
    """A patient's images.

    Attributes:
        name: the folder's.
        images: by modality id.
        label: the expert mask, if there is one.
        regions: region id -> integer labels in this mask.
        group: for stratified splits, e.g. "HGG"; empty if there are none.
    """

    name: str
    images: dict[str, ImageSource]
    label: ImageSource | None
    regions: dict[str, tuple[int, ...]]
    group: str = ""

    def read_images(self) -> dict[str, Volume]:
        return {modality: source.read() for modality, source in self.images.items()}


def read_case_folder(folder: Path | str, group: str = "") -> Case:
    """Find the images of one patient.

    Raises:
        InputError: there is no such folder, no naming is recognised, or two files claim one modality.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"the case folder '{folder}' does not exist. Check the path.")
    files = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(ENDINGS)]
    found = {naming.title: _match(naming, files, folder) for naming in NAMINGS}
    naming = max(NAMINGS, key=lambda candidate: len(found[candidate.title][0]))
    images, label = found[naming.title]
    if not images:
        names = ", ".join(path.name for path in files[:6]) or "no .nii or .nii.gz file"
        titles = "; ".join(candidate.title for candidate in NAMINGS)
        raise InputError(f"'{folder}' holds {names}; no known naming. Known: {titles}.")
    return Case(folder.name, images, label, naming.regions, group)


def is_case_folder(folder: Path) -> bool:
    """Whether some file in `folder` is named as an image of a known naming."""
    files = [path for path in folder.iterdir() if path.name.lower().endswith(ENDINGS)]
    return any(_last_part(path) in naming.modalities for path in files for naming in NAMINGS)


def _match(naming: Naming, files: list[Path], folder: Path) -> tuple[dict[str, ImageSource], ImageSource | None]:
    images: dict[str, ImageSource] = {}
    label = None
    for path in files:
        part = _last_part(path)
        modality = naming.modalities.get(part)
        if modality in images:
            raise InputError(
                f"'{folder}' holds two files for {modality}: {images[modality].path.name} and {path.name}. Keep one."
            )
        if modality is not None:
            images[modality] = ImageSource(path)
        elif part in naming.masks:
            label = ImageSource(path)
    return images, label


def _last_part(path: Path) -> str:
    """`BraTS20_Training_001_t1ce.nii.gz` -> `t1ce`; `BraTS-GLI-00000-000-t2f.nii.gz` -> `t2f`; `nct.nii` -> `nct`."""
    stem = path.name.lower()
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    return stem.replace("-", "_").rsplit("_", 1)[-1]
