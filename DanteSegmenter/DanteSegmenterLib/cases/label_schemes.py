"""Meaning of the labels in an expert's mask, from names or from a `labels.json`.

    BraTS 2017-2021                       1 necrotic or non-enhancing, 2 oedema, 4 enhancing
    BraTS 2023: GLI, SSA, MEN, MET, GoAT  1 necrotic or non-enhancing, 2 oedema, 3 enhancing
    BraTS 2024, gliomas after treatment   the same and 4, the cavity that surgery left: no tumour
    BraTS PED                             2023 as above; from 2024 on 1 enhancing, 2 non-enhancing, 3 cyst, 4 oedema

The two meanings of PED cannot be distinguished by names, so a `labels.json` beside the cases must define them. It can
define any other labels too: {"WT": [1, 2, 3, 4], "TC": [1, 2, 3], "ET": [1], "outside": []}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..files.user_files import decode, is_file

LABELS_FILE = "labels.json"
OUTSIDE = "outside"
EXAMPLE = '{"WT": [1, 2, 3, 4], "TC": [1, 2, 3], "ET": [1]}'
BRAIN_REGIONS = ("WT", "TC", "ET")
# Name endings of BraTS 2018 to 2021, and of collections with the same labels: UPENN-GBM, UCSF-PDGM, TCGA.
ENDINGS_2018 = {"t1", "t1ce", "t1c", "t1gd", "t2", "flair", "fla", "ct1"}
# In BraTS-GLI-NNNNN-TTT, time points from this number on are after treatment.
FIRST_AFTER_TREATMENT = 100


@dataclass(frozen=True)
class LabelScheme:
    """Region id -> integer labels, known labels outside all regions, and a note for the user."""

    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    outside: tuple[int, ...] = ()
    remark: str = ""


BRATS_2018 = LabelScheme({"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)})
BRATS_2023 = LabelScheme({"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)})
BRATS_2024 = LabelScheme(
    BRATS_2023.regions,
    (4,),
    "masks of gliomas after treatment (BraTS 2024): label 4, the cavity that surgery left, counts as no tumour",
)
CHEST_CT = LabelScheme({"PE": (1,)})


def scheme_of(names: str, endings: Collection[str]) -> LabelScheme:
    """The label scheme of a brain mask.

    Args:
        names: names of the case's folder and files.
        endings: last parts of all images' names, e.g. "t1n".
    """
    kind, time_point = _brats_kind(names)
    if kind == "ped":
        return _unknown("names of BraTS PED, whose labels mean one thing in 2023 and another from 2024 on")
    if kind == "men-rt":
        return _unknown("names of BraTS MEN-RT, whose one label is the target of radiotherapy")
    after_treatment = kind == "gli" and time_point >= FIRST_AFTER_TREATMENT
    if {"t1n", "t2f"} & set(endings) or (kind and {"t1c", "t2w"} & set(endings)):
        return BRATS_2024 if after_treatment else BRATS_2023
    if not set(endings) <= ENDINGS_2018:
        return _unknown("no naming whose labels are known")
    if after_treatment:
        return _unknown(
            "a glioma after treatment (BraTS 2024) named as in 2018-2021, whose 4 may be enhancing tumour or the cavity"
        )
    return BRATS_2018


def _brats_kind(names: str) -> tuple[str, int]:
    """ "BraTS-GLI-00005-101" -> "gli", 101."""
    match = re.search(r"brats[-_]?(gli|ssa|men[-_]?rt|men|met|ped|goat)s?[-_](?:\d+(?:[-_](\d{3}))?)?", names.lower())
    return (match[1].replace("_", "-"), int(match[2] or 0)) if match else ("", 0)


def _unknown(why: str) -> LabelScheme:
    return LabelScheme(remark=f"{why}. Say in a file {LABELS_FILE} beside the cases what they mean, e.g. {EXAMPLE}")


def read_labels_file(folder: Path) -> LabelScheme | None:
    """Label scheme from a folder's `labels.json`; None if there is none, or it belongs to another program.

    Raises:
        InputError: it names our regions but cannot be used.
    """
    path = folder / LABELS_FILE
    if not is_file(path):
        return None
    try:
        plain = json.loads(decode(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read ({error}). Wanted is e.g. {EXAMPLE}.") from None
    if not isinstance(plain, dict) or not {"PE", *BRAIN_REGIONS} & set(plain):
        return None
    wanted = ("PE",) if "PE" in plain else BRAIN_REGIONS
    outside = plain.pop(OUTSIDE, [])
    if set(plain) != set(wanted) or not all(_is_labels(values) for values in (*plain.values(), [1, *_listed(outside)])):
        raise InputError(f"'{path}': wanted are lists of positive labels for {', '.join(wanted)}, e.g. {EXAMPLE}.")
    return LabelScheme({region: tuple(plain[region]) for region in wanted}, tuple(outside))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [None]


def _is_labels(values: object) -> bool:
    numbers = isinstance(values, list) and all(type(value) is int and value > 0 for value in values)
    return numbers and bool(values)
