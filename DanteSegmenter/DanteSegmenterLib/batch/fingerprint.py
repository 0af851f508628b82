"""Digests of a result's images in its header, without names, so that replaced images are segmented again."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..cases.case import ImageSource
from ..model_folder.read_write import sha256_of
from ..strict_dataclass import to_plain
from .finished import from_header

IMAGES_KEY = "DanteImages"  # header field of .seg.nrrd
# Per process: a GUI asks again at every click.
KEPT_DIGESTS = 1 << 16


@dataclass(frozen=True)
class Fingerprint:
    """Digests of the images that a result was made of; both are SHA-256 and independent of file names.

    Attributes:
        contents: of the bytes of all files, by modality.
        seen: of all files' sizes and times. If it is unchanged no file is opened: reading the headers of a thousand
            results takes seconds, reading their images minutes, during which a GUI would wait.
    """

    contents: str
    seen: str


def fingerprint(images: Mapping[str, ImageSource]) -> Fingerprint | None:
    """Fingerprint of images by modality; None if one cannot be read. Call before the images are read."""
    try:
        seen = _sum(images, _seen)  # first, so that a file replaced meanwhile does not get its new times
        return Fingerprint(_sum(images, _contents), seen)
    except OSError:
        return None


def header_of(made_of: Fingerprint | None) -> dict[str, str]:
    """The fingerprint as fields of a result's header."""
    return {} if made_of is None else {IMAGES_KEY: json.dumps(to_plain(made_of))}


def is_made_from(path: Path, images: Mapping[str, ImageSource]) -> bool:
    """Whether a result was made of these images in their present state.

    Results of earlier versions have no fingerprint: they count as such unless an image is newer.
    """
    made_of = from_header(path, IMAGES_KEY, Fingerprint)
    try:
        if made_of is None:
            return not _newer(images, path)
        return _sum(images, _seen) == made_of.seen or _sum(images, _contents) == made_of.contents
    except OSError:  # reported when the file is read
        return False


def _newer(images: Mapping[str, ImageSource], path: Path) -> bool:
    made = path.stat().st_mtime_ns
    return any(file.stat().st_mtime_ns > made for source in images.values() for file in source.files)


def _sum(images: Mapping[str, ImageSource], of_file: Callable[[Path], str]) -> str:
    """One digest over all files, independent of their order."""
    said = {modality: sorted(map(of_file, source.files)) for modality, source in images.items()}
    table = [[modality, images[modality].component, said[modality]] for modality in sorted(images)]
    return hashlib.sha256(json.dumps(table).encode()).hexdigest()


def _seen(path: Path) -> str:
    """Size and times; ctime is set by the system, so it differs for a copy that preserves mtime."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _contents(path: Path) -> str:
    return _digest(path, _seen(path))


@functools.lru_cache(KEPT_DIGESTS)
def _digest(path: Path, seen: str) -> str:
    if not path.is_file():  # opening a pipe would block forever
        raise FileNotFoundError(path)
    return sha256_of(path)
