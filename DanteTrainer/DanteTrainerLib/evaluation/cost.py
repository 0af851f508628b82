"""Cost of a network: parameters, multiply-adds per window, memory and time per case; and cost of its training.

PyTorch counts multiply-adds on meta tensors, where all convolutions are PyTorch's own; a count on a CPU would miss
those with a faster implementation here (`networks.convolution`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.inference import Model, segment
from DanteSegmenterLib.memory import give_back_freed_memory, peak_resident_bytes
from DanteSegmenterLib.model_folder import ModelSpec, Pathway
from DanteSegmenterLib.networks.build import build
from DanteSegmenterLib.volume import Volume

from ..loop.history import DROPPED_COLUMN, HISTORY_FILE, MEMORY_COLUMN, seconds_trained, sum_over_steps
from .evaluated_model import pathway_of, with_one_network


@dataclass(frozen=True)
class Cost:
    """Cost of one network of a model.

    Attributes:
        parameters: number of weights, over all members.
        multiply_adds: of convolutions and matrix products, for one window of `patch`, over all members.
        patch: window size in voxels along K, J, I.
        seconds: per case, from loaded volumes to masks with the network loaded; the median. None without cases.
        memory_bytes: peak for the first case, including weights: growth of the process on a CPU, memory of tensors on
            CUDA. None without cases, or if the system does not report it (on CPU, Linux does).
        cases: number of timed cases.
        device: device and precision, such as "cpu (float32)"; "" without cases.
        members: number of networks in the pathway.
    """

    parameters: int
    multiply_adds: int
    patch: tuple[int, int, int]
    seconds: float | None = None
    memory_bytes: int | None = None
    cases: int = 0
    device: str = ""
    members: int = 1

    def table(self) -> str:
        """The cost as a markdown table."""
        window = " x ".join(map(str, self.patch))
        lines = [
            "| cost | |",
            "|---|---|",
            f"| parameters | {self.parameters / 1e6:.3f} million |",
            f"| multiply-adds of a window of {window} voxels | {self.multiply_adds / 1e9:.1f} G |",
        ]
        if self.members > 1:
            lines.insert(2, f"| networks whose logits are averaged | {self.members} |")
        if self.seconds is not None:
            memory = "not told by this system" if self.memory_bytes is None else f"{self.memory_bytes / 1e6:.0f} MB"
            lines += [
                f"| peak memory, weights included, {self.device} | {memory} |",
                f"| seconds a case, median of {self.cases}, {self.device} | {self.seconds:.2f} |",
            ]
        return "\n".join(lines)


def cost_of(model: Model, full: bool = False, cases: Sequence[Case] = ()) -> Cost:
    """Cost of f_L, or with `full` of f_F.

    Args:
        cases: to segment; the first is run twice: once for warm-up and memory, once for time.

    Raises:
        InputError: the model has no f_F, or a case cannot be segmented.
        ModelError: the weights are missing, altered or do not fit.
        ResourceError: out of memory even with the smallest settings.
    """
    pathway = pathway_of(model.spec, full)
    size = Cost(*size_of(model.spec, pathway), model.spec.patch, members=len(pathway.members))
    if not cases:
        return size
    alone = with_one_network(model, pathway)  # loads its weights anew, so that they count
    first, where = _volumes(cases[0], pathway), ""

    def warm_up() -> None:
        nonlocal where
        where = segment(alone, first).report.device

    memory = peak_bytes(model.device, warm_up)
    seconds = []
    for case in cases:
        volumes = _volumes(case, pathway)
        start = time.perf_counter()
        segment(alone, volumes)  # masks are on the CPU when it returns, so nothing is still running
        seconds.append(time.perf_counter() - start)
    return replace(size, seconds=median(seconds), memory_bytes=memory, cases=len(cases), device=where)


def _volumes(case: Case, pathway: Pathway) -> dict[str, Volume]:
    return {modality: case.images[modality].read() for modality in pathway.modalities}


def size_of(spec: ModelSpec, pathway: Pathway) -> tuple[int, int]:
    """Parameters of all members of a pathway, and multiply-adds for one window of the model's patch.

    Raises:
        ModelError: the architecture is not known to this version.
    """
    with torch.device("meta"):
        network = build(spec, pathway).eval().requires_grad_(False)  # else the counter includes the backward pass
        window = torch.empty(1, len(pathway.modalities), *spec.patch)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(window)
    members, operations = len(pathway.members), counter.get_total_flops()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return members * parameters, members * operations // 2  # one multiply-add is two operations


def peak_bytes(device: torch.device, work: Callable[[], object]) -> int | None:
    """Peak memory of `work` beyond what was used before; None if the system does not report it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    give_back_freed_memory()  # free memory in the process would be reused and not counted
    counting = device.type == "cpu" and _reset_peak()
    resident = peak_resident_bytes() if counting else None
    work()
    after = peak_resident_bytes()
    return None if resident is None or after is None else after - resident


def _reset_peak() -> bool:
    """Reset Linux's peak resident set size; returns whether that worked (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class StageCost:
    """Cost of one training stage according to its log, without pauses between sessions.

    Attributes:
        memory_mb: peak memory of the process, or of tensors on CUDA; None if not logged.
        without_privileged: number of steps' worth of samples without the privileged modality; None for methods that do
            not drop it.
    """

    stage: str
    steps: int
    seconds: float
    memory_mb: float | None = None
    without_privileged: float | None = None

    @property
    def seconds_per_step(self) -> float:
        return self.seconds / self.steps


def training_cost(run: Path) -> list[StageCost]:
    """Cost of each stage from a run's log; empty if it has no rows yet.

    Raises:
        InputError: the log cannot be read.
    """
    path = run / HISTORY_FILE
    if not path.is_file():
        return []
    try:
        log = pd.read_csv(path, dtype={"stage": str})
        return [_stage_cost(str(stage), rows) for stage, rows in log.groupby("stage", sort=False)]
    except (OSError, ValueError, KeyError, AttributeError) as error:  # pandas' own errors are ValueErrors
        raise InputError(
            f"'{path}' is no log of a training ({error}). Put it back, or remove it: costs are not told then."
        ) from None


def _stage_cost(stage: str, rows: pd.DataFrame) -> StageCost:
    logged_columns = rows.dropna(axis="columns", how="all")
    logged = logged_columns.assign(stage=stage).to_dict("records")
    memory = float(logged_columns[MEMORY_COLUMN].max()) if MEMORY_COLUMN in logged_columns else None
    dropped = sum_over_steps(logged, DROPPED_COLUMN) if DROPPED_COLUMN in logged_columns else None
    return StageCost(stage, int(rows.step.max()), seconds_trained(logged), memory, dropped)


def training_table(stages: Sequence[StageCost]) -> str:
    """The training cost as a markdown table."""
    lines = ["| training | steps | s per step | minutes | peak memory |", "|---|---|---|---|---|"]
    for s in stages:
        memory = "not told" if s.memory_mb is None else f"{s.memory_mb:.0f} MB"
        lines.append(f"| {s.stage} | {s.steps} | {s.seconds_per_step:.2f} | {s.seconds / 60:.1f} | {memory} |")
    return "\n".join(lines)
