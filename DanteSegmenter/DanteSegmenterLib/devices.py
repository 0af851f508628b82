"""Where to compute and in which precision."""

from __future__ import annotations

import functools
import time

import torch

from .errors import ResourceError


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


@functools.cache
def fastest_dtype(device: torch.device) -> torch.dtype:
    """The number format in which a typical convolution runs fastest here: measured once per process, 0.2 s.

    Half precision is fast only where the hardware has it (AMX or AVX512-BF16, tensor cores); elsewhere it is emulated
    and slower than float32, so asking the hardware beats a list of its names.
    """
    half = torch.bfloat16 if device.type == "cpu" else torch.float16
    # In turn, and the minimum of several: another program may take the processor for a while.
    seconds = {half: float("inf"), torch.float32: float("inf")}
    for _ in range(8):
        for dtype in seconds:
            seconds[dtype] = min(seconds[dtype], _convolution_seconds(device, dtype))
    # Half precision has to win clearly: float32 is a little more exact.
    return half if seconds[half] < 0.9 * seconds[torch.float32] else torch.float32


def _convolution_seconds(device: torch.device, dtype: torch.dtype, channels: int = 32, size: int = 32) -> float:
    try:
        convolution = torch.nn.Conv3d(channels, channels, 3, padding=1).to(device, dtype)
        convolution = convolution.to(memory_format=torch.channels_last_3d)
        image = torch.zeros(1, channels, size, size, size, device=device, dtype=dtype)
        image = image.to(memory_format=torch.channels_last_3d)
        with torch.inference_mode():
            start = time.perf_counter()
            convolution(image)
            synchronise(device)
            return time.perf_counter() - start
    except RuntimeError:  # this type has no kernel on this device
        return float("inf")


def synchronise(device: torch.device) -> None:
    """Wait for queued work, so that a time measured is the time spent."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
