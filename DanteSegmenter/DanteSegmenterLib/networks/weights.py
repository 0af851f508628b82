"""Read and write network weights as safetensors; names, shapes and dtypes must match the network exactly."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ..errors import ModelError

# Header of names and shapes: 100 kB for a real network. Checked before anything is allocated.
MAX_HEADER_BYTES = 10 << 20
# Trained weights are a few units at most. Larger ones could make the variance inside a norm infinite, which the norm
# would hide: its output would be the bias alone, as if the image were empty.
LARGEST_WEIGHT = 1e6


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's parameters and buffers to `path` in float32.

    Raises:
        ModelError: a value is not finite, or too large; nothing is written.
    """
    tensors = {name: t.detach().to("cpu", torch.float32).contiguous() for name, t in network.state_dict().items()}
    _check_values(tensors, "the network")
    save_file(tensors, str(path))


def load_weights(network: nn.Module, path: Path) -> None:
    """Load `network` from `path`.

    Raises:
        ModelError: the file is not safetensors, its tensors do not match the network's exactly, or a value is not
            finite or too large.
    """
    wanted = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    _compare(wanted, _shapes_in(path), path)
    try:
        tensors = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"'{path}' cannot be read as safetensors ({error}). Copy the model folder again.") from None
    # Before the check: float64 values may exceed float32. A copy, as Windows does not allow replacing a mapped file.
    tensors = {name: t.to(torch.float32, copy=True) for name, t in tensors.items()}
    _check_values(tensors, f"'{path}'")
    network.load_state_dict(tensors, strict=True, assign=True)


def _check_values(tensors: dict[str, torch.Tensor], holder: str) -> None:
    for name, tensor in tensors.items():
        largest = float(tensor.abs().max()) if tensor.numel() else 0.0
        if not largest <= LARGEST_WEIGHT:
            raise ModelError(
                f"{holder} holds weights that are not finite, or beyond {LARGEST_WEIGHT:g}, which no training gives: "
                f"{largest:g} in '{name}'. Train or copy again."
            )


def _shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes from the file's header alone, so that absurd sizes are found before memory is allocated."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size, MAX_HEADER_BYTES):
                raise ValueError(f"header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length))
        return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"'{path}' is not a safetensors file ({error}). Copy the model folder again.") from None


def _compare(wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], path: Path) -> None:
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or extra:
        raise ModelError(
            f"'{path}' does not fit the network in model.json: missing {missing[:3] or 'none'}, unknown "
            f"{extra[:3] or 'none'} (of {len(missing)} missing, {len(extra)} unknown)."
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ModelError(
                f"'{path}' does not fit the network in model.json: '{name}' has shape {found[name]}, wanted {shape}."
            )
