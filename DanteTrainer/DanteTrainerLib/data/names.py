"""What case names reveal about patients without a mapping: time points, and one scan under two names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from DanteSegmenterLib.cases.time_points import without_time_point

# More "time points" than this are different patients: "site1_001" to "site1_040".
MOST_TIME_POINTS = 10

# Public collections that share patients, by the prefixes of their case names.
_GLIOMAS = (
    (r"brats1[3-9]|brats_(?:tcia|2013)", "BraTS 2013-2019"),
    (r"brats20_", "BraTS 2020"),
    (r"brats2021|brats-gli-\d+-0", "BraTS 2021-2023"),
    (r"brats-gli", "BraTS 2024"),
    (r"brats-goat", "BraTS GoAT"),
    (r"brats_\d", "MSD Task01"),
    (r"tcga-", "TCGA"),
    (r"upenn-gbm", "UPENN-GBM"),
    (r"ucsf-pdgm", "UCSF-PDGM"),
    (r"cptac|c3[ln]-", "CPTAC-GBM"),
)


def scan_key(name: str) -> str:
    """A key shared by the names of one scan in different releases, where the naming rule is known.

    BraTS 2017 to 2019 changed only the year; BraTS 2023 kept the numbers of 2021.
    """
    name = name.strip().lower()
    name = re.sub(r"^brats1[789]_", "brats1x_", name)
    return re.sub(r"^brats2021_(\d{5})$", r"brats-gli-\1-000", name)


def patient_key(name: str) -> tuple[str, bool]:
    """The patient part of a name, and whether the rest is certainly a time point."""
    return without_time_point(scan_key(name))


def patients_by_name(names: Sequence[str]) -> dict[str, str]:
    """Case name -> patient; suffixes that only may be time points count as such if there are few of them."""
    perhaps: dict[str, list[str]] = defaultdict(list)
    for name in names:
        key, sure = patient_key(name)
        if not sure:
            perhaps[key].append(name)
    return {
        name: key if sure or len(perhaps[key]) <= MOST_TIME_POINTS else scan_key(name)
        for name in names
        for key, sure in [patient_key(name)]
    }


def collection(name: str) -> str:
    """Title of a name's collection; empty for collections that share no patients with others."""
    known = glioma_collection(name)
    if known or re.match(r"brats[-_]?(ssa|men|met|ped)", name.strip().lower()):
        return known
    return f"names like '{re.sub(r'[0-9]+', '#', name)}'"


def glioma_collection(name: str) -> str:
    """The public glioma collection that a name belongs to; empty for any other name."""
    name = name.strip().lower()
    return next((title for start, title in _GLIOMAS if re.match(start, name)), "")
