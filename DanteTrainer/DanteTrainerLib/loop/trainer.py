"""The training loop that all methods use."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from DanteSegmenterLib.errors import Cancelled, DanteError, ResourceError
from DanteSegmenterLib.memory import peak_resident_bytes

from ..data.batch_processes import loaders_watched
from ..data.patches import Batch, PatchLoader, PatchSource
from ..ending import stop_checked_by_loop
from ..settings.experiment import Experiment
from ..settings.tasks import TASKS
from ..status import StatusWriter
from .checkpoint import save_checkpoint
from .compilation import compile_networks
from .distributed import Group
from .history import MEMORY_COLUMN, Row, draw_history, write_history
from .optimiser import Updater
from .precision import autocast, choose_precision
from .stage import LossTerms, Stage, StepContext

# Rows of the log are means over this many steps.
LOG_EVERY = 10
# Drawing takes about a second, a checkpoint of a small network a hundredth. `run.train` draws the final curves.
DRAW_EVERY_SECONDS = 60


@dataclass
class Progress:
    """Progress of a run; saved in checkpoints beside the weights."""

    stage: int = 0
    step: int = 0
    rows: list[Row] = field(default_factory=list)
    drawn: float = field(default_factory=time.monotonic)  # time of the last drawing, or of the start; not saved

    @classmethod
    def of(cls, state: dict[str, Any], stages: Sequence[Stage]) -> Progress:
        """Progress stored in a checkpoint.

        Raises:
            ResourceError: its stage or step does not exist in this run.
        """
        stage, step, rows = state.get("stage"), state["step"], state.get("rows")
        if not isinstance(stage, int) or not 0 <= stage < len(stages) or not isinstance(rows, list):
            raise ResourceError(f"the checkpoint stands in stage {stage}; this run has {len(stages)}. Start a new run.")
        # Compared with the checkpoint's own number of steps: the run's may have been reduced since.
        if step > state.get("steps", stages[stage].steps):
            raise ResourceError(f"the checkpoint stands at step {step} of {state.get('steps')}. Start a new run.")
        return cls(stage, step, rows)


@dataclass(frozen=True)
class Trainer:
    """Trains the stages of one experiment.

    Attributes:
        experiment: settings.
        device: device to train on.
        folder: run folder for checkpoints, log and curves.
        workers: processes that prepare batches.
        quiet: no progress bar.
        stop: called after every step; if it returns True, the run ends with a checkpoint.
        group: processes that train together; only the first writes.
        run_id: id of the run, stored in its checkpoints.
    """

    experiment: Experiment
    device: torch.device
    folder: Path
    workers: int
    quiet: bool = False
    stop: Callable[[], bool] = lambda: False
    group: Group = Group()
    run_id: str = ""

    def train(
        self,
        stage: Stage,
        source: PatchSource,
        validation: PatchSource | None,
        progress: Progress,
        resumed: dict[str, Any] | None = None,
    ) -> None:
        """Train one stage from `progress.step` to its end.

        Args:
            stage: its networks are trained in place.
            source, validation: training and validation patches.
            progress: updated in place; `progress.stage` is the index of the stage.
            resumed: state from a checkpoint of this stage, to continue from.

        Raises:
            Cancelled: `stop` returned True; a checkpoint was written.
            TrainingFailed: the loss or a weight became NaN or infinite; the last checkpoint is from before that.
            ResourceError: a checkpoint could not be written, or does not fit; a process that draws batches was killed.
        """
        dtype = choose_precision(self.experiment.run.precision, self.device)
        updater = Updater(stage, self.experiment.optimiser, self.device, dtype, self.group)
        if resumed is not None:
            updater.load(resumed)
        if self.experiment.run.compile:
            compile_networks(updater.networks, self.device)
        mean, status = _RunningMean(), StatusWriter(self.folder)

        def advance() -> None:
            progress.step += 1

        # Processes that train together must stop together, after a step.
        aside = None if self.group.size > 1 else lambda: self._save_aside(updater, progress)
        with stop_checked_by_loop(aside), loaders_watched():
            for batch in mean.timed(self._bar(stage, source, progress)):
                context = seeded_context(self.experiment.seed, progress.stage, progress.step, stage.steps, self.group)
                stage.freeze(context.share)
                mean.add(updater.step(batch, context, advance), updater.rate(context))
                if self.group.leads:
                    loss = progress.rows[-1]["loss"] if progress.rows else None
                    status.step(stage.name, progress.step, stage.steps, loss)
                self._after_step(updater, validation, progress, mean)

    def _bar(self, stage: Stage, source: PatchSource, progress: Progress) -> Iterator[Batch]:
        loader = PatchLoader(source, progress.step, stage.steps, self.workers, pin=self.device.type == "cuda")
        with tqdm(
            loader,
            desc=stage.name,
            total=stage.steps,
            initial=progress.step,
            unit="step",
            disable=self.quiet or not self.group.leads,
            mininterval=1,
            dynamic_ncols=True,
        ) as bar:
            for batch in bar:
                yield batch
                if progress.rows and progress.rows[-1]["step"] == progress.step:
                    bar.set_postfix(loss=f"{progress.rows[-1]['loss']:.3f}", refresh=False)

    def _after_step(
        self, updater: Updater, validation: PatchSource | None, progress: Progress, mean: _RunningMean
    ) -> None:
        """Log, validate, save and stop, each when due."""
        stage, run, step = updater.stage, self.experiment.run, progress.step
        last = step == stage.steps
        due = run.validate_every and (step % run.validate_every == 0 or last)
        if step % LOG_EVERY == 0 or last or due:
            row: Row = {"stage": stage.name, "step": step, **mean.row()}
            row |= _peak_memory(self.device)
            row["loss"] = round(self.group.mean(torch.tensor(row["loss"], device=self.device)).item(), 6)
            if due and self.group.leads and validation is not None and stage.predict is not None:
                row |= self._validate(stage, validation, updater.dtype)
            with updater.updating:
                progress.rows.append(row)
        stopping = self.group.any(self.stop(), self.device)
        if self.group.leads and (step % run.checkpoint_every == 0 or last or stopping):
            with updater.updating:
                self._save(updater, progress)
            if time.monotonic() > progress.drawn + DRAW_EVERY_SECONDS:
                draw_history(self.folder, progress.rows)
                progress.drawn = time.monotonic()
        if stopping and not last:
            raise Cancelled(_stopped(step, stage))

    def _save(self, updater: Updater, progress: Progress) -> None:
        """Save the checkpoint and the log."""
        updater.check_weights(progress.step)
        place = {"run": self.run_id, "stage": progress.stage, "step": progress.step, "steps": updater.stage.steps}
        save_checkpoint(self.folder, place | {"rows": progress.rows} | updater.state())
        write_history(self.folder, progress.rows)

    def _save_aside(self, updater: Updater, progress: Progress) -> str:
        """Save the state before the current step; called from another thread while the step computes."""
        updater.updating.acquire()  # never released: the process ends
        with contextlib.suppress(DanteError):  # the last checkpoint remains
            self._save(updater, progress)
        return _stopped(progress.step, updater.stage)

    @torch.no_grad()
    def _validate(self, stage: Stage, source: PatchSource, dtype: torch.dtype) -> dict[str, float]:
        """Pseudo-Dice per region, as `dice_WT` etc.; `also_NAME_WT` for each of the stage's `also_predict`."""
        ways = {"dice": stage.predict, **{f"also_{name}": predict for name, predict in stage.also_predict.items()}}
        counts = {name: _Overlap() for name in ways}
        for n in range(self.experiment.run.validation_batches):
            batch = source.batch(n).to(self.device)
            images = batch.images.to(memory_format=torch.channels_last_3d)
            for name, predict in ways.items():
                if predict is not None:
                    with autocast(self.device, dtype):
                        logits = predict(images)
                    counts[name].add(logits.float(), batch.regions)
        regions = [region.id for region in TASKS[self.experiment.task].regions]
        return {
            f"{name}_{region}": round(value, 4)
            for name, count in counts.items()
            for region, value in zip(regions, count.dice())
        }


def seeded_context(seed: int, stage: int, step: int, steps: int, group: Group) -> StepContext:
    """Seed everything that draws during a step, so that no generator carries state over from earlier steps.

    The context's generator is the same in every process, as `StepContext.own` needs. PyTorch's own generators differ:
    dropout draws from them, for a process's own samples.
    """
    mixed = hash((seed, stage, step)) & 0x7FFF_FFFF_FFFF_FFFF
    torch.manual_seed(mixed + group.rank)
    return StepContext(step, steps, torch.Generator().manual_seed(mixed), group.rank, group.size)


def _peak_memory(device: torch.device) -> dict[str, float]:
    """Peak memory of the process, or of its tensors on CUDA; empty if the system does not report it."""
    on_card = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) if on_card else peak_resident_bytes()
    return {} if peak is None else {MEMORY_COLUMN: round(peak / 1e6)}


def _stopped(step: int, stage: Stage) -> str:
    return f"Stopped after step {step} of {stage.name}; resume the run to continue."


def _exclusive(logits: torch.Tensor) -> torch.Tensor:
    """Logits [B, 1+R, ...] -> one-hot of the most probable label without background, [B, R, ...]."""
    labels = logits.argmax(dim=1)
    return torch.stack([labels == n for n in range(1, logits.shape[1])], dim=1)


class _Overlap:
    """Pseudo-Dice as in nnU-Net: counts accumulated over fixed, unaugmented patches, per region."""

    def __init__(self) -> None:
        self._hit = self._size = torch.zeros(1)

    def add(self, logits: Tensor, regions: Tensor) -> None:
        predicted = logits > 0 if logits.shape[1] == regions.shape[1] else _exclusive(logits)
        axes = (0, 2, 3, 4)
        self._hit = self._hit + (predicted * regions).sum(axes).cpu()
        self._size = self._size + (predicted.sum(axes) + regions.sum(axes)).cpu()

    def dice(self) -> list[float]:
        return (2 * self._hit / self._size.clamp_min(1)).tolist()


class _RunningMean:
    """Accumulates means of loss, terms and logged values, seconds per step, and the share of time spent waiting."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._rate = 0.0
        self._start = time.perf_counter()
        self._waited = 0.0

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches while measuring how long the training waits for them."""
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def add(self, terms: LossTerms, rate: float) -> None:
        values = {"loss": terms.total.item()}
        values |= {f"loss_{name}": term.value.item() for name, term in terms.terms.items()}
        values |= {f"log_{name}": value for name, value in terms.logged.items()}
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._rate = rate

    def row(self) -> dict[str, float]:
        """Means since the last row; resets the accumulators."""
        steps, seconds = self._counts.get("loss", 0), time.perf_counter() - self._start
        row = {name: round(total / self._counts[name], 6) for name, total in self._sums.items()}
        row |= {"learning_rate": self._rate, "seconds_per_step": round(seconds / max(1, steps), 4)}
        row["loader_wait_share"] = round(min(1.0, self._waited / max(seconds, 1e-9)), 4)
        self._sums, self._counts, self._start, self._waited = {}, {}, time.perf_counter(), 0.0
        return row
