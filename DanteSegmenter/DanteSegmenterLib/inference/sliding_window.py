"""Gaussian-weighted sliding-window prediction (Isensee et al. 2021): 50 % overlap, logits averaged.

Windows in which every input is background are skipped. Memory is bounded: sums are kept on the device where they fit
and on the CPU where they do not, windows go through in batches that shrink when memory runs out.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import Cancelled, ResourceError
from ..volume import triple

OVERLAP = 0.5
SIGMA_SHARE = 1 / 8  # of the window's size, as nnU-Net

Window = tuple[int, int, int]  # first voxel along K, J, I


MIRRORINGS = tuple(axes for n in range(4) for axes in combinations((2, 3, 4), n))
"""The eight ways to mirror [B, C, K, J, I], none included."""


@dataclass(frozen=True)
class Plan:
    """How much is computed at once, and where; `mirror` averages the logits of all eight mirrorings of a window."""

    device: torch.device
    dtype: torch.dtype
    batch: int
    sums_on_device: bool = True
    mirror: bool = False

    def smaller(self) -> Plan | None:
        """The next step down after memory ran out; None when there is none."""
        if self.sums_on_device and self.device.type != "cpu":
            return replace(self, sums_on_device=False)
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        if self.device.type != "cpu":
            return replace(self, device=torch.device("cpu"), dtype=torch.float32)
        return None

    def __str__(self) -> str:
        sums = "" if self.sums_on_device else ", sums in main memory"
        return f"{self.device.type}, {self.batch} window(s) at once{sums}"


def predict_logits(
    network: nn.Module,
    image: Tensor,
    patch: Sequence[int],
    channels_out: int,
    plan: Plan,
    progress: Callable[[float], None],
    cancelled: Callable[[], bool],
) -> tuple[Tensor, tuple[str, ...]]:
    """Logits of a whole image.

    Args:
        network: maps [B, C, *patch] to [B, channels_out, *patch].
        image: float32 [C, K, J, I] on the CPU; background exactly 0.
        patch: window size along K, J, I.
        channels_out: of the network.
        plan: where to begin; smaller steps follow if memory runs out.
        progress: called with the share done, at least once per convolution block.
        cancelled: asked as often.

    Returns:
        float32 logits [channels_out, K, J, I] on the CPU, NaN where no window was needed because all inputs are
        background there; and notes on every fallback.

    Raises:
        Cancelled: `cancelled` said so. ResourceError: not even the smallest step fits into memory.
    """
    notes: list[str] = []
    current: Plan | None = plan
    while current is not None:
        try:
            return _predict(network, image, patch, channels_out, current, progress, cancelled), tuple(notes)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed, current = current, current.smaller()
        # Outside the handler: the traceback held the tensors that filled the memory.
        if failed.device.type == "cuda":
            torch.cuda.empty_cache()
        if current is not None:
            notes.append(f"Memory ran out ({failed}); went on with {current}.")
    raise ResourceError(
        f"not enough memory to segment this volume, even one window at a time on the CPU ({failed}). Close other "
        "programs, or crop the volume."
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch or numpy means that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text


def window_starts(size: int, window: int) -> list[int]:
    """First voxels of evenly spread windows along one axis, neighbours overlapping by at least half."""
    if size <= window:
        return [0]
    count = math.ceil((size - window) / (window * (1 - OVERLAP))) + 1
    return [round(n * (size - window) / (count - 1)) for n in range(count)]


@functools.cache
def gaussian_window(patch: tuple[int, ...]) -> Tensor:
    """Weight of each voxel of a window, float32 [K, J, I], 1 at the centre, which is voxel n // 2 as in nnU-Net."""
    weight = torch.ones(())
    for size in patch:
        distance = torch.arange(size, dtype=torch.float32) - size // 2
        weight = weight[..., None] * torch.exp(-0.5 * (distance / (size * SIGMA_SHARE)) ** 2)
    # Far corners must keep a say where they are all there is.
    return (weight / weight.max()).clamp_min(1e-6)


def needed_windows(image: Tensor, patch: Sequence[int]) -> list[Window]:
    """Windows of a padded image [C, K, J, I] in which some input is not background."""
    grid = [window_starts(size, window) for size, window in zip(image.shape[1:], patch)]
    occupied = np.any((image != 0).numpy(), axis=0)  # torch's own `any` along an axis took a third of a run
    return [(k, j, i) for k in grid[0] for j in grid[1] for i in grid[2] if occupied[_slices((k, j, i), patch)].any()]


def _predict(
    network: nn.Module,
    image: Tensor,
    patch: Sequence[int],
    channels_out: int,
    plan: Plan,
    progress: Callable[[float], None],
    cancelled: Callable[[], bool],
) -> Tensor:
    padded, inner = _pad_to(image, patch)
    windows = needed_windows(padded, patch)
    batches = [windows[n : n + plan.batch] for n in range(0, len(windows), plan.batch)]
    sums_device = plan.device if plan.sums_on_device else torch.device("cpu")
    sums = torch.zeros((channels_out, *padded.shape[1:]), device=sums_device)
    weight_sums = torch.zeros(padded.shape[1:], device=sums_device)
    weight = gaussian_window(tuple(patch)).to(sums_device)
    network = network.to(plan.device, plan.dtype)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # not in torch's stub
    source = padded.to(plan.device if plan.sums_on_device else "cpu")
    mirrorings = MIRRORINGS if plan.mirror else MIRRORINGS[:1]
    with torch.inference_mode(), _ticks(network, len(batches) * len(mirrorings), progress, cancelled):
        for batch in batches:
            inputs = torch.stack([_at(source, _slices(window, patch)) for window in batch])
            inputs = inputs.to(plan.device, plan.dtype).to(memory_format=torch.channels_last_3d)
            logits = _averaged(network, inputs, mirrorings).to(sums_device, torch.float32)
            for window, value in zip(batch, logits):
                where = _slices(window, patch)
                _at(sums, where).add_(value * weight)
                weight_sums[where] += weight
    # 0 / 0 is NaN: the mark for "nothing to segment here".
    return _at(sums / weight_sums, inner).cpu()


def _averaged(network: nn.Module, inputs: Tensor, mirrorings: Sequence[tuple[int, ...]]) -> Tensor:
    """Mean over mirrorings of the mirrored-back logits (test-time augmentation as nnU-Net)."""
    if len(mirrorings) == 1:
        return network(inputs)
    total = torch.zeros((), device=inputs.device)
    for axes in mirrorings:
        mirrored = inputs.flip(axes).contiguous(memory_format=torch.channels_last_3d)
        total = total + network(mirrored).flip(axes).float()
    return total / len(mirrorings)


def _pad_to(image: Tensor, patch: Sequence[int]) -> tuple[Tensor, tuple[slice, slice, slice]]:
    """Pad with background to at least one window; where the image lies in the result."""
    before = [max(0, window - size) // 2 for size, window in zip(image.shape[1:], patch)]
    after = [max(0, window - size) - b for size, window, b in zip(image.shape[1:], patch, before)]
    inner = triple(slice(b, b + size) for b, size in zip(before, image.shape[1:]))
    pads = [pad for pair in reversed(list(zip(before, after))) for pad in pair]
    return nn.functional.pad(image, pads), inner


def _at(image: Tensor, where: tuple[slice, slice, slice]) -> Tensor:
    """A box of [C, K, J, I], all channels (a view)."""
    k, j, i = where
    return image[:, k, j, i]


def _slices(window: Window, patch: Sequence[int]) -> tuple[slice, slice, slice]:
    return triple(slice(start, start + size) for start, size in zip(window, patch))


@contextlib.contextmanager
def _ticks(
    network: nn.Module, passes: int, progress: Callable[[float], None], cancelled: Callable[[], bool]
) -> Iterator[None]:
    """Report and ask before every convolution: one window of a large network can take many seconds on a CPU."""
    convolutions = [part for part in network.modules() if isinstance(part, (nn.Conv3d, nn.ConvTranspose3d))]
    total = max(1, passes * len(convolutions))
    done = 0

    def tick(*_: object) -> None:
        nonlocal done
        if cancelled():
            raise Cancelled("Stopped; nothing was changed.")
        progress(min(1.0, done / total))
        done += 1

    hooks = [convolution.register_forward_pre_hook(tick) for convolution in convolutions]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
