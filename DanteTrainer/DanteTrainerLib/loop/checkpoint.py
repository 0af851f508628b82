"""The full state of a training in one file, written all or nothing, with its digest, the one before kept.

There is no state of random generators to keep: patches, augmentation, masks and the global generators are seeded anew
for every step by (seed, stage, step), so a resumed run draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from DanteSegmenterLib.errors import ResourceError

MAGIC = b"DANTE checkpoint 1\n"
NAME, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def save_checkpoint(folder: Path, state: dict[str, Any], name: str = NAME) -> None:
    """Write `state`; the checkpoint of before stays beside it.

    Raises:
        ResourceError: no space left or not writable; the checkpoints of before are untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    temporary = folder / f".{name}.writing"
    try:
        with open(temporary, "wb") as file:
            file.write(MAGIC + hashlib.sha256(content).digest())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if name == NAME and (folder / NAME).exists():
            os.replace(folder / NAME, folder / PREVIOUS)
        os.replace(temporary, folder / name)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ResourceError(
            f"the checkpoint could not be written to '{folder}': {error.strerror or error}. The one before is intact; "
            "make room and resume."
        ) from None


def load_checkpoint(folder: Path) -> tuple[dict[str, Any] | None, str | None]:
    """The newest intact checkpoint, and a word if it is not the newest; (None, None) if there never was one.

    Raises:
        ResourceError: there are checkpoints, but none is intact.
    """
    damaged: list[str] = []
    for name in (NAME, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        state = read_state(path)
        if state is not None:
            note = (
                f"'{damaged[0]}' is damaged; going on from the one before, step {state['step']}." if damaged else None
            )
            return state, note
        damaged.append(name)
    if damaged:
        raise ResourceError(f"no intact checkpoint in '{folder}' ({', '.join(damaged)} damaged). Start the run again.")
    return None, None


def read_state(path: Path) -> dict[str, Any] | None:
    """The state in a checkpoint file, None if the file is damaged or not there."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    start = len(MAGIC) + hashlib.sha256().digest_size
    payload = memoryview(content)[start:]
    if content[: len(MAGIC)] != MAGIC or hashlib.sha256(payload).digest() != content[len(MAGIC) : start]:
        return None
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
