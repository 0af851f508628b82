"""Folders described by a `dataset.json`: the Medical Segmentation Decathlon's Task01, and nnU-Net raw data."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.images import IMAGE_ENDINGS
from ..files.user_files import decode, entries, is_file, is_folder
from .case import Case, ImageSource
from .label_schemes import CHEST_CT, LabelScheme
from .model_names import ANY_MODEL, ModelNames

# Image folder -> mask folder: for training, and reserved for testing.
PARTS = {"imagesTr": "labelsTr", "imagesTs": "labelsTs"}
# Words in a label's name -> regions that include the label; the first match counts.
MEANINGS = (
    (r"background|outside", None),
    (r"cavity|\brc\b|resect", ()),
    (r"o?edema|\bed\b|snfh|flair|invaded|infiltrat", ("WT",)),
    (r"non[- _]*enh|necro|\bnc\b|ncr|netc|\bnet\b|cyst|\bcc\b", ("WT", "TC")),
    (r"enhanc|\bet\b|\bat\b|active", ("WT", "TC", "ET")),
)  # fmt: skip


def has_images(folder: Path) -> bool:
    """Whether a dataset.json here would describe images, rather than belong to another program."""
    return any(is_folder(folder / part) for part in PARTS)


def read_dataset_json(folder: Path, scheme: LabelScheme | None = None, names: ModelNames = ANY_MODEL) -> list[Case]:
    """Cases of an MSD or nnU-Net raw folder: imagesTr, then those reserved for testing, imagesTs.

    Args:
        scheme: label scheme, if known better than from the file.
        names: of the model that will segment the cases. It needs no labels, so unknown ones are then only a remark.

    Raises:
        InputError: dataset.json is damaged or has unknown channels or labels; a folder cannot be read.
    """
    path = folder / "dataset.json"
    try:
        description = json.loads(decode(path.read_bytes()))
        channels = description.get("channel_names") or description["modality"]
        modalities = {int(n): _modality(str(name), int(n), names) for n, name in channels.items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        own = f"{names.listed} or " if names.own else ""
        raise InputError(
            f"'{path}' cannot be used ({error}): it must name its channels, each one of {own}T1, T1ce, T2, FLAIR, nct, "
            "ctpa."
        ) from None
    if len(set(modalities.values())) < len(modalities):
        raise InputError(f"'{path}' names two channels alike: {', '.join(map(str, channels.values()))}. Rename one.")
    scheme = scheme or _scheme_for(description.get("labels", {}), path, names)
    read = _msd_cases if "training" in description and "modality" in description else _nnunet_cases
    cases = []
    for images, labels in PARTS.items():
        if is_folder(folder / images):
            found = read(folder / images, folder / labels, modalities)
            cases += [
                replace(
                    case,
                    regions=scheme.regions,
                    outside=scheme.outside,
                    remark=scheme.remark,
                    held_apart=images == "imagesTs",
                )
                for case in found
            ]
    return cases


def _scheme_for(labels: dict[str, Any], path: Path, names: ModelNames) -> LabelScheme:
    """The label scheme of a dataset.

    Raises:
        InputError: the meaning of a label is unknown, and labels are needed, as there is no model.
    """
    try:
        return _scheme(labels, path)
    except InputError as error:
        if not names.modalities:
            raise
        return LabelScheme(remark=str(error).removesuffix("."))


def _modality(channel: str, number: int, names: ModelNames) -> str:
    modality = names.of_channel(channel, number)
    if modality is None:
        raise ValueError(f"the channel '{channel}' is not known")
    return modality


def _msd_cases(images: Path, labels: Path, modalities: dict[int, str]) -> list[Case]:
    """Cases from 4-D images imagesTr/X.nii.gz with labelsTr/X.nii.gz."""
    cases = []
    for image in _images(images):
        sources = {modality: ImageSource(image, component) for component, modality in modalities.items()}
        cases.append(Case(_stem(image), sources, _label(labels, _stem(image)), {}))
    return cases


def _nnunet_cases(images: Path, labels: Path, modalities: dict[int, str]) -> list[Case]:
    """Cases from one file per channel, imagesTr/X_0000.nii.gz, with labelsTr/X.nii.gz; other names become problems."""
    sources: dict[str, dict[str, ImageSource]] = {}
    strange = []
    for image in _images(images):
        match = re.fullmatch(r"(.+)_(\d{4})", _stem(image))
        if match is None or int(match[2]) not in modalities:
            problem = f"'{image}': nnU-Net names images CASE_NNNN with NNNN one of the dataset's channels."
            strange.append(Case(_stem(image), {}, None, {}, problem=problem))
        else:
            sources.setdefault(match[1], {})[modalities[int(match[2])]] = ImageSource(image)
    return [*(Case(name, own, _label(labels, name), {}) for name, own in sources.items()), *strange]


def _images(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if path.name.lower().endswith(IMAGE_ENDINGS)]


def _label(folder: Path, name: str) -> ImageSource | None:
    paths = (folder / f"{name}{ending}" for ending in IMAGE_ENDINGS)
    return next((ImageSource(path) for path in paths if is_file(path)), None)


def _stem(path: Path) -> str:
    ending = max((ending for ending in IMAGE_ENDINGS if path.name.lower().endswith(ending)), key=len)
    return path.name[: -len(ending)]


def _scheme(labels: dict[str, Any], path: Path) -> LabelScheme:
    """Label scheme from either form of "labels": name -> number or numbers, or number -> name.

    Raises:
        InputError: the meaning of a label is unknown.
    """
    try:
        scheme = _embolism(labels) or _nested_regions(labels) or _single_labels(labels)
    except (AttributeError, TypeError, ValueError):
        scheme = None
    if scheme is None:
        raise InputError(
            f"'{path}': the labels {labels} are not known. Wanted: MSD Task01's (1 edema, 2 non-enhancing, 3 "
            "enhancing), nnU-Net regions (whole tumor, tumor core, enhancing tumor as lists), or an embolism label."
        )
    return scheme


def _embolism(labels: dict[str, Any]) -> LabelScheme | None:
    text = " ".join([*labels, *(str(value) for value in labels.values())]).lower()
    return CHEST_CT if "embol" in text or "pe" in text.split() else None


def _nested_regions(labels: dict[str, Any]) -> LabelScheme | None:
    """Regions in nnU-Net's form: {"whole tumor": [1, 2, 3], ...}."""
    usual = {"WT": "whole tumor", "TC": "tumor core", "ET": "enhancing tumor"}
    by_name = {str(name).lower().replace("tumour", "tumor"): value for name, value in labels.items()}
    lists = {region: by_name.get(region.lower(), by_name.get(name)) for region, name in usual.items()}
    if not isinstance(lists["WT"], list):
        return None
    regions = {region: _numbers(value) for region, value in lists.items()}
    known = {0, *(number for numbers in regions.values() for number in numbers)}
    others = {number for value in labels.values() for number in _numbers(value)} - known
    return LabelScheme(regions, tuple(sorted(others)))


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(int(number) for number in (value if isinstance(value, list) else [value]))


def _single_labels(labels: dict[str, Any]) -> LabelScheme | None:
    """One name per number. MSD Task01 has its own order: read as BraTS, core and oedema would be swapped."""
    numbers = {
        int(value) if str(value).isdigit() else int(name): str(name if str(value).isdigit() else value).lower()
        for name, value in labels.items()
    }
    regions: dict[str, tuple[int, ...]] = {"WT": (), "TC": (), "ET": ()}
    outside = []
    for number, name in sorted(numbers.items()):
        meaning = next(((number_of,) for words, number_of in MEANINGS if re.search(words, name)), None)
        if meaning is None:
            return None
        if meaning == ((),):
            outside.append(number)
        for region in meaning[0] or ():
            regions[region] = (*regions[region], number)
    return LabelScheme(regions, tuple(outside)) if all(regions.values()) else None
