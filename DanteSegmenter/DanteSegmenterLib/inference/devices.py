"""Where to compute and in which precision."""

from __future__ import annotations

import torch

from ..errors import ResourceError


def resolve_device(name: str = "auto") -> torch.device:
    """An available device by name: "auto", "cpu", "cuda", "cuda:1" or "mps"; auto prefers CUDA, then MPS.

    Raises:
        ResourceError: a device was asked for by name and is not there: a silent fall to the CPU would hide it.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ResourceError(f"unknown device '{name}'; use auto, cpu, cuda, cuda:N or mps.") from None
    present = {
        "cpu": True,
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }.get(device.type)
    if not present:
        raise ResourceError(f"the device '{name}' is not available on this computer; use 'auto' or 'cpu'.")
    return device


def fastest_dtype(device: torch.device) -> torch.dtype:
    """The number format in which convolutions run fastest here, told by the hardware's own word.

    Half precision is fast only where there are instructions for it: bfloat16 on processors with AMX or AVX512-BF16,
    float16 on graphics cards. Elsewhere it is emulated and slower than float32. Not measured: two clicks on one
    computer must give the same segmentation, however busy it is.
    """
    if device.type == "cpu":
        has = [getattr(torch.cpu, f"_is_{name}_supported", lambda: False)() for name in ("amx_tile", "avx512_bf16")]
        return torch.bfloat16 if any(has) else torch.float32
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (7, 0):  # before tensor cores
        return torch.float32
    return torch.float16


def synchronise(device: torch.device) -> None:
    """Wait for queued work, so that a time measured is the time spent."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
