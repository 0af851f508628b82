"""Where to compute and in which precision."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..errors import ResourceError, lacks_memory

# How the libraries below say that memory ran out; oneDNN's primitives fail for nothing else with sizes that are sound.
OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "not enough memory", "could not create a primitive", "alloc_failed",
    "bad alloc", "bad_alloc",
)  # fmt: skip


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
    float16 on graphics cards with tensor cores. Elsewhere it is emulated and slower than float32; Apple's graphics
    (MPS) refuse transposed convolutions in it. Not measured: two clicks on one computer must give the same
    segmentation, however busy it is. Never fails: a broken driver is found out when the network runs. What is said
    of MPS is from PyTorch's issues 160332 and 154696 and was simulated, not run on a Mac.
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
    """Memory that runs out meanwhile is one sentence.

    Raises:
        ResourceError: it did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError("there is not enough memory. Close other programs, or crop the volumes.") from error


_MOVED: WeakKeyDictionary[nn.Module, tuple[torch.device, torch.dtype, nn.Module]] = WeakKeyDictionary()


def on_device(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The network on a device in a number format: itself, or a copy that is kept for the next time.

    A copy, because half precision cannot be undone: after a step down to float32 the weights must be those of the file.
    """
    first = next(network.parameters(), None)
    if first is None or (first.device, first.dtype) == (device, dtype):
        return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # not in torch's stub
    kept = _MOVED.get(network)
    if kept is None or kept[:2] != (device, dtype):
        _MOVED.pop(network, None)  # its memory first
        moved = copy.deepcopy(network).to(device, dtype).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        kept = _MOVED[network] = device, dtype, moved
    return kept[2]


def synchronise(device: torch.device) -> None:
    """Wait for queued work, so that a time measured is the time spent."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
