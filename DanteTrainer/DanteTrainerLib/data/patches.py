"""Training patches: `PatchSource.batch(step)` is a pure function of the seed and the step.

Checkpoints need no data state: a resumed training requests the next step's batch, with any number of worker or training
processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .augment import NONE, Augmentation, apply, draw, source_size
from .batch_processes import AHEAD, affordable_workers, set_up_worker
from .cache import CachedCase

# nnU-Net's rule: the last third of a batch is forced to contain foreground (at least one of two samples).
FOREGROUND_SHARE = 0.33
# Random streams: supervised stages of all methods see the same batches, whatever stages came before.
SUPERVISED, PRETRAINING, VALIDATION = range(3)


@dataclass(frozen=True)
class Batch:
    """The data of one step.

    Attributes:
        images: float32 [B, C, K, J, I], all modalities of the task (X^F); methods select X^L.
        regions: float32 0/1 [B, R, K, J, I]; all 0 for an unlabelled case.
        foreground: bool [B, 1, K, J, I], where any modality is not background; cannot be recovered from augmented CT
            images.
    """

    images: Tensor
    regions: Tensor
    foreground: Tensor

    def to(self, device: torch.device) -> Batch:
        # MPS would read memory that is free again, if it is not waited for (PyTorch's issues 139550 and 189690).
        at_once = device.type != "mps"
        return Batch(*(part.to(device, non_blocking=at_once) for part in (self.images, self.regions, self.foreground)))

    def pin_memory(self) -> Batch:
        """Called by DataLoader."""
        return Batch(*(part.pin_memory() for part in (self.images, self.regions, self.foreground)))


@dataclass(frozen=True)
class PatchSource(Dataset[Batch]):
    """Draws batches of training patches.

    Attributes:
        cases: drawn uniformly with replacement.
        regions: number of regions.
        patch: size along K, J, I.
        batch_size: samples per step, over all processes.
        seed: of the run.
        stream: purpose of the patches; sources with the same seed and stream draw the same patches, whatever the
            method.
        augmentation: "none", or a kind of `augment.draw`.
        foreground_share: share of each batch that is forced to contain a region; if that is less than half a sample,
            one sample in as many steps as it takes.
        strength: strength of the augmentation, see `augment.draw`.
        rank, world_size: this process draws the samples n of the batch with n % world_size == rank.
    """

    cases: Sequence[CachedCase]
    regions: int
    patch: tuple[int, int, int]
    batch_size: int
    seed: int
    augmentation: str = "full"
    foreground_share: float = FOREGROUND_SHARE
    stream: int = SUPERVISED
    strength: str = "nnunet"
    rank: int = 0
    world_size: int = 1

    def __getitem__(self, step: int) -> Batch:  # what DataLoader calls
        return self.batch(step)

    def batch_bytes(self) -> int:
        """Size of this process's share of a batch: float32 images and regions, and one byte per foreground voxel."""
        samples = len(range(self.rank, self.batch_size, self.world_size))
        channels = self.cases[0].images().shape[0] + self.regions
        return samples * (4 * channels + 1) * math.prod(self.patch)

    def batch(self, step: int) -> Batch:
        """This process's share of the batch of a step."""
        samples = [self._sample(step, n) for n in range(self.rank, self.batch_size, self.world_size)]
        return Batch(*map(torch.stack, zip(*samples)))

    def _sample(self, step: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """One sample, as returned by `apply`."""
        generator = np.random.default_rng([self.seed, self.stream, step, n])
        case = self.cases[int(generator.integers(len(self.cases)))]
        images, labels = case.images(), case.labels()
        centre = self._centre(generator, case, labels.shape, self._is_forced(step, n))
        augmentation = self._augmentation(generator, images.shape[0])
        size = source_size(self.patch, augmentation)
        start = [c - s // 2 for c, s in zip(centre, size)]
        bits = torch.from_numpy(_cut(labels[None], start, size, [0])[0])
        regions = torch.stack([(bits >> r) & 1 for r in range(self.regions)]).float()
        source = torch.from_numpy(_cut(images, start, size, case.background.values)).float()
        return apply(source, regions, self.patch, augmentation, case.background)

    def _is_forced(self, step: int, n: int) -> bool:
        """Whether a sample must contain a region: the last ones of each batch, or if the share is less than half a
        sample, the last one of some batches.
        """
        free = round(self.batch_size * (1 - self.foreground_share))
        if free < self.batch_size:
            return n >= free
        forced = self.batch_size * self.foreground_share  # of a step, on average
        return n == self.batch_size - 1 and math.floor((step + 1) * forced) > math.floor(step * forced)

    def _augmentation(self, generator: np.random.Generator, channels: int) -> Augmentation:
        if self.augmentation == "none":
            return NONE
        return draw(generator, channels, self.augmentation, self.strength)

    def _centre(
        self, generator: np.random.Generator, case: CachedCase, shape: Sequence[int], forced: bool
    ) -> list[int]:
        """Centre voxel of the patch: anywhere the patch fits, or on a random voxel of a random present region."""
        if forced and case.labelled:
            places = [case.places(r) for r in range(self.regions)]
            present = [p for p in places if len(p)]
            if present:
                chosen = present[generator.integers(len(present))]
                wanted = chosen[generator.integers(len(chosen))]
                return [self._inside(int(c), size, edge) for c, size, edge in zip(wanted, shape, self.patch)]
        first = [generator.integers(max(1, size - edge + 1)) for size, edge in zip(shape, self.patch)]
        return [self._inside(int(f) + edge // 2, size, edge) for f, size, edge in zip(first, shape, self.patch)]

    @staticmethod
    def _inside(centre: int, size: int, edge: int) -> int:
        """Keep the patch inside the image, or centre the image in the patch."""
        if size <= edge:
            return size // 2
        return min(max(centre, edge // 2), size - edge + edge // 2)


def _cut(array: np.ndarray, start: Sequence[int], size: Sequence[int], outside: Sequence[float]) -> np.ndarray:
    """Crop [C, *size] from [C, K, J, I]; beyond the array, channels are filled with their value in `outside`."""
    source, target = [], []
    for first, length, n in zip(start, size, array.shape[1:]):
        begin = max(0, first)
        end = max(begin, min(n, first + length))
        source.append(slice(begin, end))
        target.append(slice(begin - first, end - first))
    result = np.empty((len(array), *size), array.dtype)
    for channel, piece, value in zip(result, array, outside):
        channel[...] = value
        channel[tuple(target)] = piece[tuple(source)]
    return result


class PatchLoader:
    """Loads the batches of steps `first` ... `last - 1`, prepared ahead by worker processes."""

    def __init__(self, source: PatchSource, first: int, last: int, workers: int, pin: bool = False) -> None:
        workers = affordable_workers(workers, source.batch_bytes()) if first < last else 0
        self._loader = DataLoader(
            source,
            batch_size=None,
            sampler=range(first, last),
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            pin_memory=pin,
            worker_init_fn=set_up_worker,
        )

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._loader)
