"""What a network costs: its size, the work for one window, the memory and seconds of whole cases; and its training's.

Multiply-adds are counted by PyTorch on tensors without memory, where every convolution is PyTorch's own: a count on a
CPU would miss those that take a faster way here (`networks.convolution`).
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

from ..loop.history import DROPPED_COLUMN, HISTORY_FILE, MEMORY_COLUMN, added_up, seconds_trained
from .subject import pathway_of, with_one_network


@dataclass(frozen=True)
class Cost:
    """What one network of a model costs.

    Attributes:
        parameters: how many numbers its weights are, of all members.
        multiply_adds: of convolutions and matrix products, for one window of `patch`, of all members.
        patch: voxels of a window along K, J, I.
        seconds: of a case, from loaded volumes to masks with the network loaded; the median. None without cases.
        memory_bytes: the most that the first case took, weights included: on a CPU by how much the process grew, on
            CUDA what tensors took there. None without cases, and where the system does not tell (CPU: Linux does).
        cases: that seconds are of.
        device: where and in which number format, such as "cpu (float32)"; "" without cases.
        members: of the pathway.
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
        """Markdown."""
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
    """The cost of f_L, or with `full` of f_F.

    Args:
        cases: to segment; the first one twice, for its first time, of which the memory is, warms things up.

    Raises:
        InputError: the model has no f_F, or a case cannot be segmented.
        ModelError: the weights are missing, were altered or do not fit.
        ResourceError: memory ran out at every step down.
    """
    pathway = pathway_of(model.spec, full)
    size = Cost(*size_of(model.spec, pathway), model.spec.patch, members=len(pathway.members))
    if not cases:
        return size
    alone = with_one_network(model, pathway)  # loads its weights anew: they are part of what is held
    first, where = _volumes(cases[0], pathway), ""

    def warm_up() -> None:
        nonlocal where
        where = segment(alone, first).report.device

    memory = peak_bytes(model.device, warm_up)
    seconds = []
    for case in cases:
        volumes = _volumes(case, pathway)
        start = time.perf_counter()
        segment(alone, volumes)  # masks are on the CPU when it returns: nothing is under way
        seconds.append(time.perf_counter() - start)
    return replace(size, seconds=median(seconds), memory_bytes=memory, cases=len(cases), device=where)


def _volumes(case: Case, pathway: Pathway) -> dict[str, Volume]:
    return {modality: case.images[modality].read() for modality in pathway.modalities}


def size_of(spec: ModelSpec, pathway: Pathway) -> tuple[int, int]:
    """How many parameters a pathway's members have together, and multiply-adds for one window of the model's patch.

    Raises:
        ModelError: its architecture is not known to this version.
    """
    with torch.device("meta"):
        network = build(spec, pathway).eval().requires_grad_(False)  # else the counter follows parameters backwards
        window = torch.empty(1, len(pathway.modalities), *spec.patch)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(window)
    members, operations = len(pathway.members), counter.get_total_flops()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return members * parameters, members * operations // 2  # a multiplication and an addition are two operations


def peak_bytes(device: torch.device, work: Callable[[], object]) -> int | None:
    """The most memory that `work` held at once, beyond what was held before; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    give_back_freed_memory()  # what lies free in the process would be taken first, unseen
    counting = device.type == "cpu" and _forget_peak()
    resident = peak_resident_bytes() if counting else None
    work()
    after = peak_resident_bytes()
    return None if resident is None or after is None else after - resident


def _forget_peak() -> bool:
    """Have Linux count the largest resident set anew from here on; whether it does (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class StageCost:
    """What the steps of one stage of a training took, by its log; pauses between sessions are not in it.

    Attributes:
        memory_mb: the most that the process held, on CUDA what tensors took there; None where the log does not say.
        without_privileged: steps' worth of samples that a method that drops saw without the privileged scan; None of
            other methods.
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
    """What a run's log says, stage by stage; empty before its first rows.

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
    told = rows.dropna(axis="columns", how="all")
    logged = told.assign(stage=stage).to_dict("records")
    memory = float(told[MEMORY_COLUMN].max()) if MEMORY_COLUMN in told else None
    dropped = added_up(logged, DROPPED_COLUMN) if DROPPED_COLUMN in told else None
    return StageCost(stage, int(rows.step.max()), seconds_trained(logged), memory, dropped)


def training_table(stages: Sequence[StageCost]) -> str:
    """Markdown."""
    lines = ["| training | steps | s per step | minutes | peak memory |", "|---|---|---|---|---|"]
    for s in stages:
        memory = "not told" if s.memory_mb is None else f"{s.memory_mb:.0f} MB"
        lines.append(f"| {s.stage} | {s.steps} | {s.seconds_per_step:.2f} | {s.seconds / 60:.1f} | {memory} |")
    return "\n".join(lines)
