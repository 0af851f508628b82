"""Which images a result was made of: digests in its header, no names. Images that were replaced are computed again."""

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

IMAGES_KEY = "DanteImages"  # in the header of .seg.nrrd
# Of one process: a window asks again at every click.
KEPT_DIGESTS = 1 << 16


@dataclass(frozen=True)
class Fingerprint:
    """Of the images that a result was made of; both are SHA-256, and neither depends on what files are called.

    Attributes:
        contents: of the bytes of every file, by modality.
        seen: of every file's size and times. Where these are as they were no file is opened: reading the headers of a
            thousand results takes seconds, reading their images minutes, and a window waits meanwhile.
    """

    contents: str
    seen: str


def fingerprint(images: Mapping[str, ImageSource]) -> Fingerprint | None:
    """Of images by modality, as they are now; None where one cannot be read. To be taken before they are read."""
    try:
        seen = _sum(images, _seen)  # first: of a file that is replaced meanwhile these are not its times
        return Fingerprint(_sum(images, _contents), seen)
    except OSError:
        return None


def header_of(made_of: Fingerprint | None) -> dict[str, str]:
    """As fields of a result's header."""
    return {} if made_of is None else {IMAGES_KEY: json.dumps(to_plain(made_of))}


def made_of_these(path: Path, images: Mapping[str, ImageSource]) -> bool:
    """Whether a result is of these images, as they are now.

    A result of an earlier version does not say what it was made of: it is, unless one of them is newer.
    """
    made_of = from_header(path, IMAGES_KEY, Fingerprint)
    try:
        if made_of is None:
            return not _newer(images, path)
        return _sum(images, _seen) == made_of.seen or _sum(images, _contents) == made_of.contents
    except OSError:  # whoever reads it says why
        return False


def _newer(images: Mapping[str, ImageSource], path: Path) -> bool:
    made = path.stat().st_mtime_ns
    return any(file.stat().st_mtime_ns > made for source in images.values() for file in source.files)


def _sum(images: Mapping[str, ImageSource], of_file: Callable[[Path], str]) -> str:
    """One digest of what is said of every file, in whatever order they come."""
    said = {modality: sorted(map(of_file, source.files)) for modality, source in images.items()}
    table = [[modality, images[modality].component, said[modality]] for modality in sorted(images)]
    return hashlib.sha256(json.dumps(table).encode()).hexdigest()


def _seen(path: Path) -> str:
    """The last one is set by the system: that of a copy which keeps the times of its source is another all the same."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _contents(path: Path) -> str:
    return _digest(path, _seen(path))


@functools.lru_cache(KEPT_DIGESTS)
def _digest(path: Path, seen: str) -> str:
    if not path.is_file():  # whoever opens a pipe waits for ever
        raise FileNotFoundError(path)
    return sha256_of(path)
