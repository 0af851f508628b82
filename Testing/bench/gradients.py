"""Gradient norm of each loss term on each network, at a run's last checkpoint.

`python Testing/bench/gradients.py RUN [BATCHES]` prints, for each weighted term, its gradient norm over the first level
of every encoder and over every whole network, averaged over the next batches.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "DanteSegmenter"), str(REPOSITORY / "DanteTrainer")]

from DanteTrainerLib.loop.checkpoint import load_checkpoint  # noqa: E402
from DanteTrainerLib.loop.precision import autocast, choose_precision  # noqa: E402
from DanteTrainerLib.loop.stage import Stage, StepContext  # noqa: E402
from DanteTrainerLib.run.cases import cached_cases, sources_of  # noqa: E402
from DanteTrainerLib.run.dataset_changes import dataset_of  # noqa: E402
from DanteTrainerLib.run.run_folder import cache_of, read_run  # noqa: E402
from DanteTrainerLib.run.train import stages_of  # noqa: E402
from DanteTrainerLib.settings.tasks import TASKS  # noqa: E402


def gradients(folder: Path, batches: int) -> dict[str, dict[str, float]]:
    """Term -> part of a network -> gradient norm of the weighted term, averaged over the batches."""
    run, device = read_run(folder), torch.device("cpu")
    task, stages = TASKS[run.experiment.task], stages_of(run.experiment, TASKS[run.experiment.task])
    state, _ = load_checkpoint(folder, run.id)
    if state is None:
        raise SystemExit(f"{folder} has no checkpoint yet: train some steps first.")
    stage = stages[state["stage"]]
    stage.networks.load_state_dict(state["networks"])
    train, val = cached_cases(run, cache_of(folder, run), dataset_of(run), task, 0, True)
    source, _ = sources_of(run.experiment, task, stage, train, val)
    sums: dict[str, dict[str, float]] = {}
    for n in range(state["step"], state["step"] + batches):
        # The last step may be done: keep its share of the stage.
        context = StepContext(state["step"] - 1, stage.steps, torch.Generator().manual_seed(n))
        stage.freeze(context.share)
        with autocast(device, choose_precision(run.experiment.run.precision, device)):
            terms = stage.loss(source.batch(n), context).terms
        for name, term in terms.items():
            for part, norm in _norms(stage, term.weight * term.value).items():
                row = sums.setdefault(name, {})
                row[part] = row.get(part, 0.0) + norm / batches
    return sums


def _norms(stage: Stage, loss: torch.Tensor) -> dict[str, float]:
    """Gradient norms of the parts that the loss reaches."""
    moving = {name: p for name, p in stage.networks.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(moving.values()), retain_graph=True, allow_unused=True)
    squares: dict[str, float] = {}
    for name, gradient in zip(moving, found):
        if gradient is None:
            continue
        first = re.match(r".*encoder\.stages\.0\b|.*\bE_\w\.stages\.0\b", name)
        for part in (name.split(".")[0], *([f"{first[0]} (first level)"] if first else [])):
            squares[part] = squares.get(part, 0.0) + gradient.float().square().sum().item()
    return {part: value**0.5 for part, value in squares.items()}


if __name__ == "__main__":
    for term, parts in gradients(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 8).items():
        print(f"{term:<16} " + "   ".join(f"{part} {norm:.3g}" for part, norm in sorted(parts.items())))
