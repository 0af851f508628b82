"""Checkpoints: the full training state in one file with a digest, written atomically; the previous one is kept.

No random state is saved: patches, augmentation, masks and the global generators are reseeded for every step from
(seed, stage, step), so a resumed run draws the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from DanteSegmenterLib.errors import ResourceError, reason
from DanteSegmenterLib.guard.busy_files import move

FORMAT, VERSION = b"DANTE checkpoint ", b"1\n"
MAGIC = FORMAT + VERSION
NAME, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def save_checkpoint(folder: Path, state: dict[str, Any], name: str = NAME) -> None:
    """Write `state`; the previous checkpoint is kept beside it.

    Raises:
        ResourceError: no space left or not writable; existing checkpoints are untouched.
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
            move(folder / NAME, folder / PREVIOUS)
        move(temporary, folder / name)
    except OSError as error:
        raise ResourceError(
            f"the checkpoint could not be written to '{folder}': {reason(error)}. The one before is intact; make room "
            "and resume."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def load_checkpoint(folder: Path, run_id: str = "") -> tuple[dict[str, Any] | None, str | None]:
    """The newest usable checkpoint, and a note if it is not the newest file; (None, None) if there is none.

    Args:
        run_id: id of the run in this folder; "" accepts any run's.

    Raises:
        ResourceError: there are checkpoints, but none is intact and belongs to this run.
    """
    problems: list[str] = []
    for name in (NAME, PREVIOUS):
        if not (folder / name).is_file():
            continue
        try:
            state = _checked(folder / name, run_id)
        except ResourceError as error:
            problems.append(str(error))
            continue
        note = f"{problems[0]}; going on from the one before, step {state['step']}." if problems else None
        return state, note
    if problems:
        raise ResourceError(f"no intact checkpoint in '{folder}': {'; '.join(problems)}. Start the run again.")
    return None, None


def read_state(path: Path, run_id: str = "") -> dict[str, Any] | None:
    """The state in a checkpoint file of this run; None if it is missing or unusable."""
    try:
        return _checked(path, run_id)
    except ResourceError:
        return None


def _checked(path: Path, run_id: str) -> dict[str, Any]:
    """Read and validate a checkpoint.

    Raises:
        ResourceError: the file is damaged, from another version or run, or has non-finite weights; without a final full
            stop, to be joined in a list.
    """
    state = _unpacked(path)
    if not isinstance(state, dict) or not isinstance(state.get("networks"), dict) or not _is_count(state.get("step")):
        raise ResourceError(f"'{path.name}' holds something else than the state of a training")
    if run_id and state.get("run") != run_id:
        raise ResourceError(f"'{path.name}' belongs to another run")
    for name, tensor in state["networks"].items():
        if not isinstance(tensor, torch.Tensor) or not torch.isfinite(tensor).all():
            raise ResourceError(f"'{path.name}' holds weights that are not finite ('{name}')")
    return state


def _unpacked(path: Path) -> object:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ResourceError(f"'{path.name}' cannot be read ({reason(error)})") from None
    start = len(MAGIC) + hashlib.sha256().digest_size
    payload = memoryview(content)[start:]
    if content.startswith(FORMAT) and not content.startswith(MAGIC) and content[len(FORMAT) :][:1].isdigit():
        raise ResourceError(f"'{path.name}' was damaged, or written by another version of SlicerDANTE")
    if content[: len(MAGIC)] != MAGIC or hashlib.sha256(payload).digest() != content[len(MAGIC) : start]:
        raise ResourceError(f"'{path.name}' is damaged")
    try:
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # valid digest, but not our content: various errors of torch and pickle
        raise ResourceError(f"'{path.name}' holds something else than a state ({type(error).__name__})") from None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
