"""Find the modalities among one patient's image files, by common naming schemes. Does not import torch.

    BraTS 2018-2021   <any>_{t1,t1ce,t2,flair,seg}.nii[.gz]
    BraTS 2023-2024   <any>-{t1n,t1c,t2w,t2f,seg}.nii[.gz]
    paired chest CT   {nct,ctpa,label}.nii[.gz]

and any other name in which `modality_guess` recognises the modality: BIDS, UPENN-GBM, UCSF-PDGM, TCGA, LUMIERE, or a
scanner's series. One case of BraTS 2020 (355) names its mask W39_1998.09.19_Segm.nii. Masks are optional.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..files.user_files import entries, is_folder
from . import vocabulary
from .case import Case, ImageSource, SeveralMasks
from .label_schemes import CHEST_CT, LabelScheme, scheme_of
from .modality_guess import guess_from_words, without_marks, words_of
from .model_names import ANY_MODEL, CHEST_IMAGES, ModelNames

ENDINGS = (".nii.gz", ".nii")
KNOWN_NAMINGS = (
    "BraTS 2018-2021 (_t1, _t1ce, _t2, _flair); BraTS 2023 (-t1n, -t1c, -t2w, -t2f); paired chest CT (nct, ctpa)"
)


@dataclass(frozen=True)
class _Named:
    """A file, with the words of its name that are not the patient's.

    Attributes:
        own: the modality, if the model defines a name for it that the vocabulary lacks.
    """

    path: Path
    words: tuple[str, ...]
    own: str | None = None

    @property
    def modality(self) -> str | None:
        return self.own or guess_from_words(self.words)

    @property
    def is_mask(self) -> bool:
        return bool(vocabulary.MASKS & set(self.words)) and not vocabulary.TISSUE_WORDS & set(self.words)


def read_case_folder(
    folder: Path | str,
    group: str = "",
    name: str = "",
    scheme: LabelScheme | None = None,
    names: ModelNames = ANY_MODEL,
) -> Case:
    """Find the images of one patient.

    Args:
        group: for stratified splits.
        name: of the case; by default the folder's.
        scheme: label scheme of the mask, if known better than from names.
        names: names of the model that will segment it, in addition to the vocabulary's.

    Raises:
        InputError: the folder does not exist, no naming scheme is recognised, or two files claim one modality.
    """
    folder = Path(folder)
    files = image_files(folder)
    named = _without_patient(files, folder.name, names)
    images = _images(named, folder, names)
    if not images:
        holds = ", ".join(path.name for path in files[:6]) or "no .nii or .nii.gz file"
        raise InputError(f"'{folder}' holds {holds}; no known naming. Known: {KNOWN_NAMINGS}.")
    _check_no_duplicates(images, folder)
    spoken = " ".join((folder.name, *(path.name for path in files)))
    endings = [_last_part(source.path) for source in images.values()]
    detected = CHEST_CT if set(images) <= set(CHEST_IMAGES) else scheme_of(spoken, endings)
    scheme = scheme or detected
    case = Case(name or folder.name, images, None, scheme.regions, group, scheme.outside, scheme.remark)
    return replace(case, label=_label(case.name, [file.path for file in named if file.is_mask]))


def is_case_folder(folder: Path, names: ModelNames = ANY_MODEL) -> bool:
    """Whether some file in the folder is named like an image, by the vocabulary or the model.

    Raises:
        InputError: the folder cannot be read.
    """
    return any(file.modality for file in _without_patient(image_files(folder), folder.name, names))


def image_files(folder: Path) -> list[Path]:
    """The NIfTI files of a folder, sorted.

    Raises:
        InputError: the folder cannot be read.
    """
    return [path for path in entries(folder) if path.name.lower().endswith(ENDINGS) and not is_folder(path)]


def _images(named: Sequence[_Named], folder: Path, names: ModelNames) -> dict[str, ImageSource]:
    """Images by modality id: the model's, or those of brain MR or chest CT, whichever are more."""
    claims: dict[str, list[_Named]] = {}
    for file in named:
        if file.modality is not None:
            claims.setdefault(file.modality, []).append(file)
    kind = names.wanted(claims)
    images = {}
    for modality in [modality for modality in claims if modality in kind]:
        plain = _plain(claims[modality])
        if plain is None:
            first, second = (file.path.name for file in claims[modality][:2])
            raise InputError(f"'{folder}' holds two files for {modality}: {first} and {second}. Keep one.")
        images[modality] = ImageSource(plain.path)
    return images


def _check_no_duplicates(images: Mapping[str, ImageSource], folder: Path) -> None:
    """Check for links between the images.

    Raises:
        InputError: two images are the same file under two names.
    """
    first: dict[tuple[int, int], str] = {}
    for modality, source in images.items():
        with contextlib.suppress(OSError):  # reported when the file is read
            status = source.path.stat()
            other = first.setdefault((status.st_dev, status.st_ino), modality)
            if other != modality and status.st_ino:  # some file systems have no inode numbers
                names = f"{images[other].path.name} and {source.path.name}"
                raise InputError(
                    f"'{folder}' holds one file as {other} and as {modality}: {names}. Each needs a scan of its own."
                )


def _plain(files: Sequence[_Named]) -> _Named | None:
    """The plain file among versions of it: T1 beside T1_bias or T1_unstripped, but not beside T1_2."""
    spoken = [without_marks(file.words) for file in files]  # "T1+C" is as short as "T1_C"
    shortest = min(spoken, key=len)
    versions = [
        words[: len(shortest)] == shortest and not all(word.isdigit() for word in words[len(shortest) :])
        for words in spoken
        if words is not shortest
    ]
    return files[spoken.index(shortest)] if all(versions) else None


def _label(case: str, masks: list[Path]) -> ImageSource | SeveralMasks | None:
    if len(masks) > 1:
        return SeveralMasks(case, tuple(path.name for path in masks))
    return ImageSource(masks[0]) if masks else None


def _without_patient(files: Sequence[Path], folder: str, names: ModelNames) -> list[_Named]:
    """The files with the words that distinguish them; their common beginning is the patient's name, whatever its words.

    Words for contrast that all files share may be the patient's initials, or apply to all images. They are left out if
    they are part of the folder's name too, or if more images can be distinguished without them.
    """
    spoken = [words_of(_stem(path)) for path in files]
    shared, own = _shared_beginning(spoken), words_of(folder)
    lengths = [max(shared, len(own) if words[: len(own)] == own and len(words) > len(own) else 0) for words in spoken]
    owned = [names.of_file(_stem(path)) for path in files]
    parted = [(path, words[:n], words[n:], own) for path, words, n, own in zip(files, spoken, lengths, owned)]
    with_telling = [_Named(path, (*_telling(before), *after), own) for path, before, after, own in parted]
    without = [_Named(path, after, own) for path, _, after, own in parted]
    scores = [_distinctness(named) for named in (with_telling, without)]
    of_folder = all(set(words[:n]) <= set(own) for words, n in zip(spoken, lengths))
    return without if scores[1] > scores[0] or (scores[1] == scores[0] and of_folder) else with_telling


def _telling(beginning: Sequence[str]) -> list[str]:
    """Informative words of a common beginning: "sub-01_ce-gd" indicates contrast, the initials in "CE_01" do not."""
    end = max((n for n, word in enumerate(beginning) if word not in vocabulary.TELLING), default=-1)
    return [
        word
        for n, word in enumerate(beginning)
        if word in vocabulary.WEIGHTINGS or (n > end and word in vocabulary.TELLING)
    ]


def _shared_beginning(spoken: Sequence[Sequence[str]]) -> int:
    """Number of words that all names begin with, leaving at least one of each."""
    if len(spoken) < 2:
        return 0
    most = min(map(len, spoken)) - 1
    return next((n for n in range(most) if len({words[n] for words in spoken}) > 1), max(most, 0))


def _distinctness(named: Sequence[_Named]) -> tuple[int, int]:
    """Number of modalities found, and minus the number of duplicate claims; larger is better."""
    found = [file.modality for file in named if file.modality]
    return len(set(found)), len(set(found)) - len(found)


def _stem(path: Path) -> str:
    stem = path.name.lower()
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    return stem


def _last_part(path: Path) -> str:
    """`BraTS20_Training_001_t1ce.nii.gz` -> `t1ce`; `BraTS-GLI-00000-000-t2f.nii.gz` -> `t2f`; `nct.nii` -> `nct`."""
    return _stem(path).replace("-", "_").rsplit("_", 1)[-1]
