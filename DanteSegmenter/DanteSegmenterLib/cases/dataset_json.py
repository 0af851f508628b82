"""Folders described by a `dataset.json`: the Medical Segmentation Decathlon's Task01 and nnU-Net raw data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import InputError
from .case_folder import Case, ImageSource

# Channel names in use -> modality id.
CHANNELS = {
    "t1": "t1", "t1w": "t1", "t1n": "t1", "t1ce": "t1ce", "t1gd": "t1ce", "t1c": "t1ce", "t2": "t2", "t2w": "t2",
    "flair": "flair", "t2f": "flair", "nct": "nct", "ctpa": "ctpa",
}  # fmt: skip
# MSD Task01 has its own order: 1 oedema, 2 non-enhancing, 3 enhancing. Taken for BraTS, core and oedema change places.
MSD_REGIONS = {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)}


def read_dataset_json(folder: Path) -> list[Case]:
    """Cases of an MSD or nnU-Net raw folder, those with labels first.

    Raises:
        InputError: dataset.json is damaged, or its channels or labels are not known ones.
    """
    path = folder / "dataset.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        channels = description.get("channel_names") or description.get("modality")
        modalities = {int(n): CHANNELS[str(name).lower()] for n, name in channels.items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"'{path}' cannot be used ({error!r}): it must name its channels, each one of {', '.join(CHANNELS)}."
        ) from None
    regions = _regions(description.get("labels", {}), path)
    if "training" in description and "modality" in description:
        return _msd_cases(folder, modalities, regions)
    return _nnunet_cases(folder, modalities, regions)


def _msd_cases(folder: Path, modalities: dict[int, str], regions: dict[str, tuple[int, ...]]) -> list[Case]:
    """4-D images imagesTr/X.nii.gz with labelsTr/X.nii.gz."""
    cases = []
    for image in _images(folder):
        images = {modality: ImageSource(image, component) for component, modality in modalities.items()}
        cases.append(Case(_stem(image), images, _label(folder, _stem(image)), regions))
    return cases


def _nnunet_cases(folder: Path, modalities: dict[int, str], regions: dict[str, tuple[int, ...]]) -> list[Case]:
    """One file a channel, imagesTr/X_0000.nii.gz, with labelsTr/X.nii.gz."""
    images: dict[str, dict[str, ImageSource]] = {}
    for image in _images(folder):
        match = re.fullmatch(r"(.+)_(\d{4})", _stem(image))
        if match is None or int(match[2]) not in modalities:
            raise InputError(f"'{image}': nnU-Net names images CASE_NNNN with NNNN one of the dataset's channels.")
        images.setdefault(match[1], {})[modalities[int(match[2])]] = ImageSource(image)
    return [Case(name, sources, _label(folder, name), regions) for name, sources in images.items()]


def _images(folder: Path) -> list[Path]:
    files = sorted((folder / "imagesTr").glob("*.nii*"))
    return [file for file in files if not file.name.startswith(".")]  # MSD archives carry "._" twins


def _label(folder: Path, name: str) -> ImageSource | None:
    for ending in (".nii.gz", ".nii"):
        path = folder / "labelsTr" / f"{name}{ending}"
        if path.is_file():
            return ImageSource(path)
    return None


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _regions(labels: dict[str, Any], path: Path) -> dict[str, tuple[int, ...]]:
    """Region id -> integer labels, from either form of "labels"."""
    text = " ".join([*labels, *(str(value) for value in labels.values())]).lower()
    if "embol" in text or "pe" in labels:
        return {"PE": (1,)}
    by_name = {str(name).lower(): value for name, value in labels.items()}
    if all(isinstance(by_name.get(region.lower()), list) for region in ("WT", "TC", "ET")):
        return {region: tuple(int(v) for v in by_name[region.lower()]) for region in ("WT", "TC", "ET")}
    whole = {"whole tumor": "WT", "tumor core": "TC", "enhancing tumor": "ET"}
    if all(isinstance(by_name.get(name), list) for name in whole):
        return {region: tuple(int(v) for v in by_name[name]) for name, region in whole.items()}
    numbers = {int(value) if str(value).isdigit() else int(name): str(name if str(value).isdigit() else value).lower()
               for name, value in labels.items() if str(value).isdigit() or str(name).isdigit()}  # fmt: skip
    if "edema" in numbers.get(1, "") and "non" in numbers.get(2, "") and "enhancing" in numbers.get(3, ""):
        return MSD_REGIONS
    raise InputError(
        f"'{path}': the labels {labels} are not known. Wanted: MSD Task01's (1 edema, 2 non-enhancing, 3 enhancing), "
        "nnU-Net regions (whole tumor, tumor core, enhancing tumor as lists), or an embolism label."
    )
