"""Read nnU-Net's checkpoints as data only: tensors, numbers, texts and containers; anything else is refused.

A `.pth` file is a pickle, which can name any function and have it called. torch's `weights_only` loading only calls
functions that build tensors; NumPy's numbers, in which nnU-Net logs its scores, are additionally allowed here.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import ModelError, lacks_memory
from ...guard.plain_text import one_line

# In earlier versions, `weights_only` could be made to run code (CVE-2025-32434).
SAFE_TORCH = (2, 6)
MAX_WEIGHTS = 100_000
MAX_CHECKPOINT_BYTES = 16 << 30


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The parts of a checkpoint that are used.

    Attributes:
        weights: by nnU-Net's names, as stored.
        configuration: such as "3d_fullres"; empty if not stored.
        trainer: class name of the trainer.
        mirror: patch axes along which mirroring is allowed.
        epochs: number of trained epochs; None if not stored.
    """

    weights: dict[str, Tensor]
    configuration: str
    trainer: str
    mirror: tuple[int, ...]
    epochs: int | None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without executing code from it.

    Raises:
        ModelError: not a checkpoint, damaged, or with more than data; or torch is too old to be safe.
    """
    plain = _plain(path)
    weights = plain.get("network_weights") if isinstance(plain, dict) else None
    if not isinstance(weights, dict) or not weights or len(weights) > MAX_WEIGHTS:
        raise ModelError(f"'{path}' is no checkpoint of nnU-Net version 2: it holds no 'network_weights'.")
    for name, tensor in weights.items():
        if not isinstance(name, str) or not _is_usual(tensor):
            raise ModelError(f"'{path}' cannot be used: the weight {one_line(repr(name))} is no array of numbers.")
    given = plain.get("init_args")
    configuration = given.get("configuration") if isinstance(given, dict) else None
    epochs = plain.get("current_epoch")
    return Checkpoint(
        weights,
        configuration if isinstance(configuration, str) else "",
        one_line(plain.get("trainer_name", "")),
        _mirror(plain.get("inference_allowed_mirroring_axes"), path),
        epochs if type(epochs) is int else None,
    )


def _plain(path: Path) -> Any:
    if tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2]) < SAFE_TORCH:
        raise ModelError(f"torch {torch.__version__} cannot read checkpoints safely. Install torch 2.6 or newer.")
    try:
        if path.stat().st_size > MAX_CHECKPOINT_BYTES:
            raise ModelError(f"'{path}' is larger than any checkpoint ({path.stat().st_size} bytes).")
        if not zipfile.is_zipfile(path) or not _is_stored(path):
            raise ModelError(f"'{path}' is no checkpoint that PyTorch wrote, or a part of one. Copy it again.")
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read: {error.strerror or error}.") from None
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            # Memory-mapped: the optimiser's state, twice as large as the weights, is never read.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        if lacks_memory(error):
            raise ModelError(f"'{path}' asks for more memory than there is; no network needs so much.") from None
        wanted = re.search(r"(?:GLOBAL|Unsupported global:?|class|function) ([\w.]+)", str(error))
        if wanted and "eights only load failed" in str(error):
            raise ModelError(
                f"'{path}' holds more than numbers and texts ('{wanted[1]}'); it is not read, for it could run code."
            ) from None
        raise ModelError(f"'{path}' cannot be read as a checkpoint ({one_line(error)}). Copy it again.") from None


def _is_stored(path: Path) -> bool:
    """Whether the zip file is uncompressed, as written by PyTorch; rules out zip bombs."""
    try:
        with zipfile.ZipFile(path) as packed:
            members = packed.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return False
    return all(member.compress_type == zipfile.ZIP_STORED for member in members)


def _is_usual(tensor: object) -> bool:
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and isinstance(tensor, Tensor)
        and tensor.is_floating_point()
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
    )


def _mirror(axes: object, path: Path) -> tuple[int, ...]:
    if axes is None:
        return ()
    if isinstance(axes, (tuple, list)) and set(axes) <= {0, 1, 2}:
        return tuple(sorted({int(axis) for axis in axes}))
    raise ModelError(f"'{path}' allows mirroring along {one_line(repr(axes))}; axes 0, 1 and 2 are known.")


def _numbers() -> list[Any]:
    """NumPy's numbers and dtypes, under the names written by versions 1 and 2."""
    scalar = np.float64(0).__reduce__()[0]
    found: list[Any] = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    found.append((np.dtype, "numpy.dtype"))
    kinds = (np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.bool_)
    return found + [type(np.dtype(kind)) for kind in kinds]


_NUMBERS = _numbers()
