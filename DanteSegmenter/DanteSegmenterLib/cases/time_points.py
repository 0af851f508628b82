"""Recognise the time point in a case's name: "BraTS-GLI-00005-101", "sub-01_ses-02", "week-044"."""

from __future__ import annotations

import re

_JOINT = r"[-_. ]"
_DATE = r"(?:19|20)\d{2}[-_.]?\d{2}[-_.]?\d{2}"
# Words that denote a time point by themselves, and those that need a number.
_WORDS = (
    "baseline|base|bl|follow[-_]?ups?|fu|pre[-_]?op(?:erative)?|post[-_]?op(?:erative)?|intra[-_]?op(?:erative)?|pre|post|"
    "initial|final|diagnosis|recurrence|progression|nadir"
)
_COUNTED = "ses|session|weeks?|wk|months?|days?|years?|visits?|vis|v|tp|time[-_]?points?|time|fu|follow[-_]?up"
# Could also be a patient's number: "scan_12".
_PERHAPS = r"(?:scans?|exams?|study|mri?|date|m|y|d|w|t)[-_]?\d{1,4}[a-z]?|\d{1,3}"
_SURE = rf"(?:{_WORDS})(?:[-_]?\d{{1,3}}d?)?|(?:{_COUNTED})[-_]?\d{{1,4}}d?(?:[-_]\d{{1,2}})?|{_DATE}"

# Names whose last part is known to be a time point, or a number that never varies.
_KNOWN = (
    r"(brats[-_]?(?:gli|ssa|men|met|peds?|goat)[-_]\d+)[-_]\d{3}",
    r"(brats[-_]men[-_]rt[-_]\d+)[-_]\d+",
    r"(brats1[789x]_.+)_\d{1,2}",
    r"(upenn-gbm-\d{5})_\d{2}",
    r"(ucsf-pdgm-\d{4})_fu\d+d",
    r"(rhuh-\d{4})_\d",
)


def is_time_point(name: str) -> bool:
    """Whether a folder's whole name is a time point, so that its parent is the patient's folder."""
    return re.fullmatch(_SURE, name.lower()) is not None


def without_time_point(name: str) -> tuple[str, bool]:
    """The patient part of a case's name, in lower case, and whether that is certain.

    It is uncertain for what could also be a patient's number: "P12_2", "study_scan3". A name that is only a time point
    is kept whole.
    """
    name = name.strip().lower().removesuffix("_nifti")
    for pattern in _KNOWN:
        known = re.fullmatch(pattern, name)
        if known:
            return known[1], True
    sure = re.fullmatch(rf"(.*?){_JOINT}+(?:{_SURE})", name)
    if sure and (re.search(r"\d", sure[1]) or not re.search(r"\d", name[len(sure[1]) :])):
        return _outermost(sure[1]), True
    perhaps = sure or re.fullmatch(rf"(.*\d[a-z]*?){_JOINT}+(?:{_PERHAPS})", name)
    return (perhaps[1], False) if perhaps and perhaps[1] else (name, True)


def _outermost(name: str) -> str:
    """ "p01_ses-02_baseline" -> "p01": there may be several time points in a row."""
    inner, sure = without_time_point(name)
    return inner if sure else name
