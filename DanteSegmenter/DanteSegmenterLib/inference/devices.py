"""Device and precision of a computation."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..errors import ResourceError, lacks_memory

# Out-of-memory messages of the libraries; with sound sizes, oneDNN's primitives fail for no other reason.
OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "not enough memory", "could not create a primitive", "alloc_failed",
    "bad alloc", "bad_alloc",
)  # fmt: skip


def resolve_device(name: str = "auto") -> torch.device:
    """An available device by name: "auto", "cpu", "cuda", "cuda:1" or "mps"; auto prefers CUDA, then MPS.

    Raises:
        ResourceError: the named device is not available; falling back to the CPU silently would hide that.
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
    """The fastest precision for convolutions on a device, from the hardware's reported support.

    Half precision is fast only with hardware support: bfloat16 on CPUs with AMX or AVX512-BF16, float16 on GPUs with
    tensor cores. Elsewhere it is emulated and slower than float32; Apple's GPUs (MPS) do not support transposed
    convolutions in it. Not benchmarked at run time: two runs on one computer must give the same segmentation, however
    busy it is. Never fails: a broken driver shows when the network runs. The statements on MPS are from PyTorch's
    issues 160332 and 154696 and were simulated, not tested on a Mac.
    """
    if device.type == "cpu":
        has = [getattr(torch.cpu, f"_is_{name}_supported", lambda: False)() for name in ("amx_tile", "avx512_bf16")]
        return torch.bfloat16 if any(has) else torch.float32
    if device.type == "cuda":
        with contextlib.suppress(RuntimeError, AssertionError):
            return torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else torch.float32
    return torch.float32


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch or numpy means that memory ran out."""
    if lacks_memory(error) or isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(words in text for words in OUT_OF_MEMORY)


@contextlib.contextmanager
def memory_explained() -> Iterator[None]:
    """Context that turns out-of-memory errors into a message.

    Raises:
        ResourceError: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError("there is not enough memory. Close other programs, or crop the volumes.") from error


_MOVED: WeakKeyDictionary[nn.Module, tuple[torch.device, torch.dtype, nn.Module]] = WeakKeyDictionary()


def on_device(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The network on a device in a given precision: itself, or a cached copy.

    A copy, because half precision is lossy: a fallback to float32 must use the original weights.
    """
    first = next(network.parameters(), None)
    if first is None or (first.device, first.dtype) == (device, dtype):
        return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # not in torch's stub
    kept = _MOVED.get(network)
    if kept is None or kept[:2] != (device, dtype):
        _MOVED.pop(network, None)  # free its memory first
        moved = copy.deepcopy(network).to(device, dtype).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        kept = _MOVED[network] = device, dtype, moved
    return kept[2]


def synchronise(device: torch.device) -> None:
    """Wait for queued work, so that measured times are correct."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
