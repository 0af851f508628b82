"""Transfer models to a remote host, which caches them by digest.

The digest is the SHA-256 of model.json, which in turn contains those of its weights files, so a folder with the same
digest holds the same model. The sender computes the digest; `ModelCache` stores models on the host.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import ModelError, ResourceError
from ..guard.replace_folder import swap_in, to_disk, unfinished_folder
from ..model_folder.checks import WEIGHTS
from ..model_folder.read_write import MAX_SPEC_BYTES, SPEC_FILE, check_weights_file, read_spec, sha256_of

MODELS_KEPT = 8  # the most recently used ones; the others are removed when a new one arrives


def digest_of(folder: Path | str) -> str:
    """Digest of a model folder: hex SHA-256 of its model.json.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        return sha256_of(Path(folder) / SPEC_FILE)
    except OSError as error:
        raise ModelError(f"'{folder}' cannot be read: {error.strerror}.") from None


def files_of(folder: Path | str) -> list[Path]:
    """Files of a model folder that are needed to segment, with weights checked against model.json.

    Raises:
        ModelError: a file is missing or was altered.
    """
    folder = Path(folder)
    pathways = read_spec(folder).pathways.values()
    weights = [check_weights_file(folder, member) for pathway in pathways for member in pathway.members]
    return [folder / SPEC_FILE, *dict.fromkeys(weights)]


def model_bytes(folder: Path | str) -> tuple[tuple[str, ...], tuple[np.ndarray, ...]]:
    """Names and contents of these files, uint8 [bytes].

    Raises:
        ModelError: as for `files_of`, or a file cannot be read.
    """
    files = files_of(folder)
    try:
        return tuple(file.name for file in files), tuple(np.fromfile(file, np.uint8) for file in files)
    except OSError as error:
        raise ModelError(f"'{folder}' cannot be read: {error.strerror}.") from None


def cache_folder() -> Path:
    """Folder of received models: ~/.cache/dante/models, or below $XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dante" / "models"


class ModelCache:
    """Received models on this computer, one folder each, named by its digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sound: set[str] = set()  # digests checked since this process started

    def find(self, digest: str) -> Path | None:
        """The folder of a model, which is marked as used; None if it is missing or damaged.

        Raises:
            ModelError: not a valid digest.
        """
        folder = self._place(digest)
        if not (folder / SPEC_FILE).is_file():
            return None
        try:
            if digest not in self._sound:
                _check(folder, digest)
            os.utime(folder)
        except (ModelError, OSError):
            return None
        self._sound.add(digest)
        return folder

    def keep(self, digest: str, names: Sequence[str], contents: Sequence[np.ndarray]) -> Path:
        """Store a received model atomically, and remove the least recently used ones.

        Raises:
            ModelError: it is not the model with this digest.
            ResourceError: it cannot be written.
        """
        place = self._place(digest)
        if len(names) != len(contents) or any(content.dtype != np.uint8 for content in contents):
            raise ModelError("the model did not arrive as files.")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with unfinished_folder(self.folder) as new:
                for name, content in zip(names, contents):
                    _write(new, name, content)
                _check(new, digest)
                swap_in(new, place)
        except OSError as error:
            raise ResourceError(f"the model cannot be kept in '{self.folder}': {error.strerror or error}.") from None
        self._sound.add(digest)
        self._remove_least_used(place)
        return place

    def _place(self, digest: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ModelError(f"'{digest}' is no digest of a model.")
        return self.folder / digest

    def _remove_least_used(self, newest: Path) -> None:
        kept = [path for path in self.folder.iterdir() if re.fullmatch(r"[0-9a-f]{64}", path.name) and path != newest]
        for path in sorted(kept, key=_used)[: max(0, len(kept) + 1 - MODELS_KEPT)]:
            shutil.rmtree(path, ignore_errors=True)


def _write(folder: Path, name: str, content: np.ndarray) -> None:
    if not (WEIGHTS.fullmatch(name) or (name == SPEC_FILE and len(content) <= MAX_SPEC_BYTES)):
        raise ModelError(f"'{name}' is no file of a model.")
    with open(folder / name, "xb") as file:
        file.write(content.data)
    to_disk(folder / name)


def _check(folder: Path, digest: str) -> None:
    """Check a received model.

    Raises:
        ModelError: the folder does not hold the complete model with this digest.
    """
    if digest_of(folder) != digest:
        raise ModelError("the model that arrived is another than was announced. Segment again.")
    files_of(folder)


def _used(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return folder.stat().st_mtime
    return 0.0
