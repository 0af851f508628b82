"""Sliding-window prediction with Gaussian weights (Isensee et al. 2021): 50 % overlap, logits averaged.

Windows with only background in every input are skipped. Memory is bounded: sums are kept on the device if they fit,
otherwise on the CPU, and batches of windows shrink when memory runs out.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor, nn

from ..errors import Cancelled, ModelError, ResourceError
from ..preprocess import Background
from ..volume import triple
from .devices import is_out_of_memory, on_device

OVERLAP = 0.5
SIGMA_SHARE = 1 / 8  # of the window's size, as in nnU-Net
LEAST_WEIGHT = 1e-6
NNUNET_LEAST_WEIGHT = 6e-9  # the smallest half-precision number divided by 10, nnU-Net's weight at the centre

Window = tuple[int, int, int]  # first voxel along K, J, I


ALL_AXES = (0, 1, 2)


def mirrorings(axes: Sequence[int] = ALL_AXES) -> tuple[tuple[int, ...], ...]:
    """All mirrorings of [B, C, K, J, I] along subsets of these of its last three axes, including none."""
    return tuple(tuple(2 + axis for axis in some) for n in range(len(axes) + 1) for some in combinations(axes, n))


@dataclass(frozen=True)
class Plan:
    """Device, precision and batch size of a prediction.

    Attributes:
        device: device of the network.
        dtype: precision of its computation.
        batch: windows per batch.
        sums_on_device: whether the sums over all windows are stored on the device rather than in main memory.
        mirror: average the logits of a window over its mirrorings along `axes`.
        axes: axes to mirror; 0, 1, 2 for K, J, I.
    """

    device: torch.device
    dtype: torch.dtype
    batch: int
    sums_on_device: bool = True
    mirror: bool = False
    axes: tuple[int, ...] = ALL_AXES

    def smaller(self, out_of_memory: bool = True) -> Plan | None:
        """The next fallback after running out of memory, or another failure of the device; None if there is none."""
        if not out_of_memory and self.dtype != torch.float32:
            return replace(self, dtype=torch.float32)
        if self.sums_on_device and self.device.type != "cpu":
            return replace(self, sums_on_device=False)
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        if self.device.type != "cpu":
            return replace(self, device=torch.device("cpu"), dtype=torch.float32)
        return None

    def __str__(self) -> str:
        sums = "" if self.sums_on_device else ", sums in main memory"
        return f"{self.where}, {self.batch} window(s) at once{sums}"

    @property
    def where(self) -> str:
        """Device and precision, such as "cpu (float32)"."""
        return f"{self.device.type} ({str(self.dtype).removeprefix('torch.')})"


@dataclass(frozen=True, eq=False)
class Prediction:
    """A network's prediction for a whole image.

    Attributes:
        logits: float32 [O, K, J, I] on the CPU, all finite; 0 where nothing was computed.
        covered: bool [K, J, I]; False where no window was needed because all inputs are background.
        plan: the plan that was finally used.
    """

    logits: Tensor
    covered: Tensor
    plan: Plan


class NotFiniteError(ArithmeticError):
    """Values inside the network exceeded the range of the precision."""


def predict_logits(
    network: nn.Module,
    image: Tensor,
    background: Background,
    patch: Sequence[int],
    channels_out: int,
    plan: Plan,
    progress: Callable[[float], None],
    cancelled: Callable[[], bool],
) -> tuple[Prediction, tuple[str, ...]]:
    """Predict the logits of a whole image.

    Args:
        network: maps [B, C, *patch] to [B, channels_out, *patch].
        image: float32 [C, K, J, I] on the CPU.
        background: of the image; used for padding to at least one window, and to skip windows of pure background.
        patch: window size along K, J, I.
        channels_out: of the network.
        plan: the first plan to try; fallbacks follow if memory runs out or the device fails.
        progress: called with the share done, at least once per convolution block.
        cancelled: called equally often; True ends the prediction.

    Returns:
        the prediction, and notes on every fallback.

    Raises:
        Cancelled: `cancelled` returned True.
        ResourceError: all fallbacks failed.
        ModelError: the network's output is not finite, even in single precision.
    """
    notes: list[str] = []
    current: Plan | None = plan
    while current is not None:
        try:
            return _predict(network, image, background, patch, channels_out, current, progress, cancelled), tuple(notes)
        except (RuntimeError, MemoryError, TypeError, AssertionError, NotFiniteError) as error:
            failed, current = current, _next_plan(current, error)
            reason, cause = _reason(error), error.with_traceback(None)
        # Outside the handler: the traceback holds references to the tensors that filled the memory.
        _free(failed.device)
        if current is not None:
            notes.append(f"{reason} ({failed}); went on with {current}.")
    raise ResourceError(
        f"the volume could not be segmented, even one window at a time on the CPU: {reason} ({failed}). Close other "
        "programs, or crop the volume."
    ) from cause


def _next_plan(failed: Plan, error: Exception) -> Plan | None:
    """The next plan to try.

    Raises:
        ModelError: the failed plan already used single precision and gave non-finite output.
    """
    if isinstance(error, NotFiniteError) and failed.dtype == torch.float32:
        raise ModelError(
            "the network's output holds values that are not finite, although its weights and the volumes are: nothing "
            "can be said of these volumes. Use another model, and look at the volumes' values."
        ) from None
    return failed.smaller(out_of_memory=is_out_of_memory(error))


def _reason(error: Exception) -> str:
    """Reason of the failure, for a note."""
    if is_out_of_memory(error):
        return "Memory ran out"
    if isinstance(error, NotFiniteError):
        return "Numbers grew beyond half precision"
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"The device failed: {line[:200].rstrip('.')}"


def _free(device: torch.device) -> None:
    """Free GPU memory held by a failed step."""
    if device.type == "cuda":
        with contextlib.suppress(RuntimeError, AssertionError):  # the driver may be gone
            torch.cuda.empty_cache()


def window_starts(size: int, window: int) -> list[int]:
    """First voxels of evenly spaced windows along one axis; neighbours overlap by at least half."""
    if size <= window:
        return [0]
    count = math.ceil((size - window) / (window * (1 - OVERLAP))) + 1
    return [round(n * (size - window) / (count - 1)) for n in range(count)]


@functools.cache
def gaussian_window(patch: tuple[int, ...], least: float = LEAST_WEIGHT) -> Tensor:
    """Weight of each voxel in a window, float32 [K, J, I], 1 at the centre, voxel n // 2 as in nnU-Net."""
    weight = torch.ones(())
    for size in patch:
        distance = torch.arange(size, dtype=torch.float32) - size // 2
        weight = weight[..., None] * torch.exp(-0.5 * (distance / (size * SIGMA_SHARE)) ** 2)
    # Corners need a minimum weight where no other window covers a voxel.
    return (weight / weight.max()).clamp_min(least)


def needed_windows(image: Tensor, background: Background, patch: Sequence[int]) -> list[Window]:
    """Windows of a padded image [C, K, J, I] with any non-background input; all windows if `like_nnunet`."""
    grid = [window_starts(size, window) for size, window in zip(image.shape[1:], patch)]
    if background.like_nnunet:
        return [(k, j, i) for k in grid[0] for j in grid[1] for i in grid[2]]
    occupied = background.foreground(image.numpy())  # torch's own `any` along an axis took a third of the time
    return [(k, j, i) for k in grid[0] for j in grid[1] for i in grid[2] if occupied[_slices((k, j, i), patch)].any()]


def _predict(
    network: nn.Module,
    image: Tensor,
    background: Background,
    patch: Sequence[int],
    channels_out: int,
    plan: Plan,
    progress: Callable[[float], None],
    cancelled: Callable[[], bool],
) -> Prediction:
    padded, inner = _pad_to(image, background, patch)
    windows = needed_windows(padded, background, patch)
    batches = [windows[n : n + plan.batch] for n in range(0, len(windows), plan.batch)]
    sums_device = plan.device if plan.sums_on_device else torch.device("cpu")
    sums = torch.zeros((channels_out, *padded.shape[1:]), device=sums_device)
    weight_sums = torch.zeros(padded.shape[1:], device=sums_device)
    least = NNUNET_LEAST_WEIGHT if background.like_nnunet else LEAST_WEIGHT
    weight = gaussian_window(tuple(patch), least).to(sums_device)
    network = on_device(network, plan.device, plan.dtype)
    source = padded.to(plan.device if plan.sums_on_device else "cpu")
    ways = mirrorings(plan.axes if plan.mirror else ())
    with torch.inference_mode(), _ticks(network, len(batches) * len(ways), progress, cancelled):
        for batch in batches:
            inputs = torch.stack([_at(source, _slices(window, patch)) for window in batch])
            inputs = inputs.to(plan.device, plan.dtype).to(memory_format=torch.channels_last_3d)
            logits = _averaged(network, inputs, ways).to(sums_device, torch.float32)
            for window, value in zip(batch, logits):
                where = _slices(window, patch)
                _at(sums, where).add_(value * weight)
                weight_sums[where] += weight
    # Check a single number first: it is finite if all are, unless enormous ones add up.
    if not torch.isfinite(sums.sum()) and not torch.isfinite(sums).all():
        raise NotFiniteError
    covered = weight_sums[inner] > 0
    logits = _at(sums, inner) / torch.where(covered, weight_sums[inner], 1.0)
    return Prediction(logits.cpu(), covered.cpu(), plan)


def _averaged(network: nn.Module, inputs: Tensor, ways: Sequence[tuple[int, ...]]) -> Tensor:
    """Mean of the logits over all mirrorings, mirrored back (test-time augmentation as in nnU-Net)."""
    if len(ways) == 1:
        return network(inputs)
    total = torch.zeros((), device=inputs.device)
    for axes in ways:
        mirrored = inputs.flip(axes).contiguous(memory_format=torch.channels_last_3d)
        total = total + network(mirrored).flip(axes).float()
    return total / len(ways)


def _pad_to(image: Tensor, background: Background, patch: Sequence[int]) -> tuple[Tensor, tuple[slice, slice, slice]]:
    """Pad with background to at least one window; also returns the image's position in the result."""
    sizes = [max(window, size) for size, window in zip(image.shape[1:], patch)]
    starts = [(whole - size) // 2 for size, whole in zip(image.shape[1:], sizes)]
    inner = triple(slice(start, start + size) for start, size in zip(starts, image.shape[1:]))
    if sizes == list(image.shape[1:]):
        return image, inner
    padded = torch.tensor(background.values)[:, None, None, None].repeat(1, *sizes)
    _at(padded, inner).copy_(image)
    return padded, inner


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
    """Call `progress` and `cancelled` before every layer, as a window of a large network can take seconds on a CPU."""
    layers = [part for part in network.modules() if isinstance(part, (nn.Conv3d, nn.ConvTranspose3d, nn.Linear))]
    total = max(1, passes * len(layers))
    done = 0

    def tick(*_: object) -> None:
        nonlocal done
        if cancelled():
            raise Cancelled("Stopped; nothing was changed.")
        progress(min(1.0, done / total))
        done += 1

    hooks = [layer.register_forward_pre_hook(tick) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
