"""Data-parallel training: each process computes its share of the global batch, and gradients are averaged.

Started by `torchrun`; with a single process everything here is the identity. Losses are means over a process's samples,
shares have equal size, and instance norm does not mix samples, so the averaged gradient is that of the whole batch.
Means over a subset of samples, or weighted means over voxels, are corrected by `share_of_chosen`. Only terms that
compare samples with one another differ: InfoNCE, PMKL's contrast and MMANet's distillation see those of one process.
Losses call the networks' parts directly, so gradients are averaged here instead of in a wrapper such as DDP.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.inference.devices import resolve_device

# The first process prepares all cases, for hours if they are many, while the others wait; by default they would give up
# after 10 minutes (nccl) or 30 (gloo). When a process fails, torchrun ends the others at once, whatever this is.
LONGEST_WAIT = timedelta(days=7)


@dataclass(frozen=True)
class Group:
    """A process group: this process is number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def any(self, value: bool, device: torch.device) -> bool:
        """Whether the value is true in any process."""
        if self.size == 1:
            return value
        flag = torch.tensor(float(value), device=device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a scalar over the processes, without gradient."""
        if self.size == 1:
            return value.detach()
        value = value.detach().clone()
        dist.all_reduce(value)
        return value / self.size

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average every gradient over the processes; parameters without a gradient in any of them keep None."""
        if self.size == 1:
            return
        moving = [p for p in parameters if p.requires_grad]
        if not moving:
            return
        reached = torch.tensor([float(p.grad is not None) for p in moving], device=moving[0].device)
        dist.all_reduce(reached, dist.ReduceOp.MAX)
        used = [p for p, flag in zip(moving, reached.tolist()) if flag]
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in used])
        dist.all_reduce(flat)
        flat /= self.size
        for p, part in zip(used, flat.split([p.numel() for p in used])):
            p.grad = part.view_as(p)


def share_of_chosen(chosen: Tensor, processes: int) -> Tensor:
    """Factor for a mean over this process's chosen samples: the processes' average is then the mean over all chosen.

    Collective: every process must call it in the step, even with no chosen samples.

    Args:
        chosen: bool [B]; for a weighted mean its weights, of any shape.
    """
    own = chosen.sum(dtype=torch.float32)
    if processes == 1:
        return torch.ones_like(own)
    everywhere = own.clone()
    dist.all_reduce(everywhere)
    return processes * own / everywhere.clamp_min(torch.finfo(own.dtype).tiny)


def join(device_name: str) -> tuple[Group, str]:
    """Join the group described by torchrun's environment; returns it and this process's device.

    Raises:
        ResourceError: there are fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Group(), device_name
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    cuda = device_name.startswith("cuda") or (device_name == "auto" and torch.cuda.is_available())
    if cuda:  # else what names no device, such as pinning memory, would take memory of the first GPU in every process
        torch.cuda.set_device(resolve_device(f"cuda:{local}"))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo", timeout=LONGEST_WAIT)
    return Group(rank, size), f"cuda:{local}" if cuda else "cpu"


def check_batch(batch_size: int, group: Group) -> None:
    """Check that the batch divides equally among the processes.

    Raises:
        ConfigError: `batch_size` is not a multiple of the number of processes.
    """
    if batch_size % group.size:
        raise ConfigError(
            f"data.batch_size {batch_size} must be a multiple of the number of processes, {group.size}: each computes "
            "an equal share."
        )
