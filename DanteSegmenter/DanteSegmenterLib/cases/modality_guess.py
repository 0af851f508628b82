"""Which volume is which modality, guessed from its name: a node's, a file's, or a DICOM SeriesDescription.

The guess fills the window's boxes and the user sees and changes it, so it had rather say nothing than something wrong:
names it does not understand, and choices between equally good volumes, stay open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Words around the weighting. Gadolinium alone is enough: nothing else in a brain study is called so.
GADOLINIUM = {"gd", "gad", "gado", "gadolinium", "gadovist", "dotarem"}
CONTRAST = {"ce", "c", "post", "contrast", "enhanced", "km", "postcontrast", "iv", *GADOLINIUM}
NATIVE = {"pre", "without", "wo", "no", "non", "native", "plain", "precontrast", "noncontrast", "unenhanced", "nativ"}
FLAIR = {"flair", "fla", "darkfluid"}
T1_SEQUENCES = {"mprage", "mpr", "mp2rage", "bravo", "spgr", "vibe", "tfe", "ir"}
ANGIOGRAPHY = {"ctpa", "cta", "ctpe", "angio", "angiography", "pulmonalis"}
# Images of a study that are none of ours, and results of processing.
OTHER = {
    "adc", "dwi", "dti", "swi", "swan", "star", "gre", "map", "maps", "perf", "perfusion", "asl", "dsc", "dce", "tof",
    "mra", "mrs", "seg", "mask", "label", "labels", "segmentation", "localizer", "localiser", "scout", "survey",
    "sub", "subtraction", "phase", "trace", "bold", "fmri",
}  # fmt: skip
PLANES = ("", "ax", "axial", "sag", "cor", "tra")
# What follows t1 or t2 without a gap, e.g. "t1ce", "t2w", "t2f".
GLUED = {
    "": "", "w": "", "wi": "", "n": "", "weighted": "", "se": "", "tse": "", "fse": "", "ffe": "",
    "f": "flair", "s": "star",
}  # fmt: skip


def guess_modality(name: str) -> str | None:
    """One of "t1", "t1ce", "t2", "flair", "nct", "ctpa"; None where the name does not tell."""
    words = set(_words(name))
    if words & OTHER:
        return None
    if words & {"ct", "nct", "ncct"} or words & ANGIOGRAPHY:
        return _guess_ct(words)
    return _guess_mr(words)


def assign(names: Sequence[str], modalities: Sequence[str]) -> dict[str, int | None]:
    """A volume for every modality.

    Args:
        names: of the volumes at hand.
        modalities: ids to find a volume for.

    Returns:
        For every modality the index of a name, each used at most once, or None. Of several candidates the one whose
        remaining words it shares with the most other modalities is taken (the same patient, the same plane); where
        two are equally good, none.
    """
    guesses = [guess_modality(name) for name in names]
    rests = [_rest(name) for name in names]
    found: dict[str, int | None] = {}
    for modality in modalities:
        candidates = [n for n, guess in enumerate(guesses) if guess == modality]
        scores = [_companions(n, rests, guesses, modalities) for n in candidates]
        best = [n for n, score in zip(candidates, scores) if score == max(scores)]
        found[modality] = best[0] if len(best) == 1 else None
    return found


def same_patient(names: Sequence[str], name: str) -> list[int]:
    """Indices of the names that differ from `name` in nothing but the words that tell the modality."""
    rest = _rest(name)
    return [n for n, other in enumerate(names) if _rest(other) == rest]


def _guess_mr(words: set[str]) -> str | None:
    t1 = "t1" in words or (bool(words & T1_SEQUENCES) and "t2" not in words and not words & FLAIR)
    if words & FLAIR and not t1:
        return "flair"
    if t1 and "t2" in words:
        return None
    contrast = bool(words & CONTRAST) and not words & NATIVE
    if t1:  # "T1 FLAIR" is T1-weighted too
        return "t1ce" if contrast else "t1"
    if "t2" in words:
        return "t2"
    return "t1ce" if words & GADOLINIUM and not words & NATIVE else None


def _guess_ct(words: set[str]) -> str | None:
    if words & {"nct", "ncct"} or words & NATIVE:
        return "nct"
    return "ctpa" if words & (ANGIOGRAPHY | CONTRAST) else None


def _words(name: str) -> list[str]:
    """The name in lower case, cut into words, with glued ones taken apart: "BraTS_T1ce" -> brats, t1, ce."""
    text = name.lower()
    text = re.sub(r"\+\s*c\b|\bc\s*\+|\+\s*gd\b", " contrast ", text)
    text = re.sub(r"\bw\s*/\s*o\b", " without ", text)
    text = re.sub(r"\bsub-", " subject ", text)  # BIDS; "SUB" elsewhere is a subtraction image
    text = re.sub(r"t2\s*\*", " t2 star ", text)
    text = re.sub(r"\.(nii|gz|nrrd|nhdr|mha|mhd|dcm)\b", " ", text)
    return [word for piece in re.split(r"[^a-z0-9]+", text) if piece for word in _unglue(piece)]


def _unglue(piece: str) -> list[str]:
    match = re.fullmatch(r"([a-z]*)(t[12])(?!\d)([a-z0-9]*)", piece)
    if match and match[1] in PLANES:
        plane, weighting, rest = match.groups()
        return [word for word in (plane, weighting, _known_start(GLUED.get(rest, rest))) if word]
    match = re.fullmatch(r"(mprage|bravo|flair|spgr|vibe|mpr)([a-z0-9]*)", piece)
    return [match[1], *([match[2]] if match[2] else [])] if match else [piece]


def _known_start(word: str) -> str:
    """A word without the tail it may carry: "mprage3d" -> "mprage"."""
    known = CONTRAST | FLAIR | T1_SEQUENCES | OTHER | NATIVE
    starts = [start for start in known if len(start) > 2 and word.startswith(start)]
    return max(starts, key=len, default=word)


def _rest(name: str) -> frozenset[str]:
    """What is left of a name without the words that tell the modality, and without a series number "5: "."""
    telling = CONTRAST | NATIVE | FLAIR | T1_SEQUENCES | ANGIOGRAPHY | {"t1", "t2", "ct", "nct", "ncct"}
    return frozenset(_words(re.sub(r"^\s*\d+\s*:", "", name))) - telling


def _companions(
    candidate: int, rests: list[frozenset[str]], guesses: list[str | None], modalities: Sequence[str]
) -> int:
    same = {guess for guess, rest in zip(guesses, rests) if rest == rests[candidate]}
    return len(same & set(modalities) - {guesses[candidate]})
