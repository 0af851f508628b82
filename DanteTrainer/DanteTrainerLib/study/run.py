"""Run a study: several methods and settings trained and evaluated under equal conditions.

Runs are processed in order. Finished ones are skipped, interrupted ones resumed, and those that another process works
on are left to it: the same command started twice, or on two machines with a shared folder, divides the work.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from DanteSegmenterLib.errors import Cancelled, ConfigError, DanteError, InputError, ModelError, sentence_of
from DanteSegmenterLib.guard.plain_text import csv_cell
from DanteSegmenterLib.inference.devices import resolve_device
from DanteSegmenterLib.model_folder import read_spec

from ..data.dataset import Dataset, read_dataset, read_split
from ..ending import wait_if_ending
from ..run.change import change_run, relocated
from ..run.run_folder import read_run
from ..run.split import split_for
from ..run.start import start_run
from ..run.train import continue_run
from ..status import RUN_FILE
from ..whole_files import make_writable
from .measure import is_measured, measure
from .plan import Planned, plan
from .study_file import Study

WAIT_SECONDS = 10
CACHE_FOLDER = "cache"


def run_study(
    study: Study,
    data: Path,
    folder: Path,
    split: str,
    device: str = "auto",
    quiet: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train and evaluate all unfinished runs, and wait for those that other processes work on.

    A failed run is reported; the others continue, except those that need its model.

    Raises:
        DanteError: before training, if the study cannot work; after all other runs, the error of the first failed run.
        Cancelled: `stop` returned True.
    """
    resolve_device(device)
    dataset = read_dataset(data)
    planned = plan(study, folder)
    missing = {need for run in planned for need in run.needs} - {run.model for run in planned}
    if missing:
        raise ConfigError(f"no row of the study trains '{min(missing)}' (the same seed is needed).")
    for run in planned:
        _check_settings(run)
    read_split(dataset, seed=planned[0].experiment.data.split_seed).part(split)
    make_writable(folder)
    options = _Options(data, dataset, folder / CACHE_FOLDER, split, device, quiet, stop, study.mirror, study.levels)
    failed: dict[Path, Exception] = {}
    left = planned
    while left:
        waiting = [run for run in left if not _process(run, options, failed)]
        if waiting and len(waiting) == len(left):
            time.sleep(WAIT_SECONDS)
        left = waiting
    for error in failed.values():
        raise error


@dataclass(frozen=True)
class _Options:
    """Options shared by all runs of a study."""

    data: Path
    dataset: Dataset
    cache: Path
    split: str
    device: str
    quiet: bool
    stop: Callable[[], bool]
    mirror: bool
    levels: bool


def _process(run: Planned, options: _Options, failed: dict[Path, Exception]) -> bool:
    """Process a run; False if it must wait: for a model that it needs, or for another process working on it."""
    if options.stop():
        raise Cancelled("Stopped; run the study again to continue.")
    if _done(run, options.split, options.mirror) and is_measured(run, options.split, options.levels):
        return True
    if any(need.parent in failed for need in run.needs):
        failed[run.folder] = DanteError(f"'{run.entry.name}' needs the model of a run that failed.")
        return True
    if not all(need.is_dir() for need in run.needs):
        return False
    try:
        with _lock_of(run):
            _train(run, options)
            if options.stop():
                raise Cancelled("Stopped before the scores; run the study again to continue.")
            score(run, options.dataset, options.split, options.device, options.quiet, options.mirror)
            names = split_for(run.folder, options.dataset).part(options.split)
            measure(run, options.dataset, names, options.split, options.levels, options.device)
    except Timeout:
        return False
    except Cancelled:
        raise
    except Exception as error:  # of this row only; continue with the others
        wait_if_ending()
        print(f"error: '{run.entry.name}', seed {run.seed}: {sentence_of(error)}", file=sys.stderr, flush=True)
        failed[run.folder] = error
    return True


def _lock_of(run: Planned) -> FileLock:
    """Lock held while a process works on a run; raises filelock.Timeout at once if another holds it."""
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(run.folder.with_name(f".{run.folder.name}.lock"), timeout=0)


def _train(run: Planned, options: _Options) -> None:
    print(f"{run.entry.name}, seed {run.seed}", flush=True)
    if not (run.folder / RUN_FILE).is_file():
        # Relative, so that a study can be moved together with its cache.
        cache = os.path.relpath(options.cache, run.folder)
        start_run(run.experiment, options.data, run.folder, run.entry.name, Path(cache))
    elif not _trained(run):
        change_run(run.folder, options.data, (f"data.workers={run.experiment.data.workers}",), run.needs)
    if not _trained(run):
        continue_run(run.folder, options.device, options.quiet, options.stop)


def _check_settings(run: Planned) -> None:
    """Check that an existing run has the study's settings.

    Raises:
        ConfigError: it was started with different settings; the number of processes, which does not change results,
            other methods' settings, and where the study lay are ignored.
    """
    if not (run.folder / RUN_FILE).is_file():
        return
    stored = relocated(read_run(run.folder).experiment, run.needs)
    stored = replace(stored, data=replace(stored.data, workers=run.experiment.data.workers))
    if stored.with_absolute_paths().own != run.experiment.with_absolute_paths().own:
        raise ConfigError(
            f"'{run.folder}' was trained with other settings than the study now asks for; use another folder."
        )


def _trained(run: Planned) -> bool:
    try:
        return bool(read_spec(run.model))
    except ModelError:
        return False


def _networks(run: Planned) -> list[bool]:
    """For each network of the model, f_L and possibly f_F: whether it is the full one."""
    return [name == "full" for name in read_spec(run.model).pathways]


def score(run: Planned, dataset: Dataset, part: str, device: str, quiet: bool, mirror: bool = False) -> None:
    """Evaluate f_L, and f_F if the method has one."""
    from ..evaluation.evaluate import evaluate

    for full in _networks(run):
        if not _scored(run, part, full, mirror):
            split, out = split_for(run.folder, dataset), scores_file(run, part, full, mirror).parent
            evaluate(run.model, dataset, split, part, out, device, quiet, full, mirror)


def scores_file(run: Planned, part: str, full: bool = False, mirror: bool = False) -> Path:
    """Path of a run's scores."""
    return run.folder / f"evaluation-{part}{'-full' * full}{'-mirror' * mirror}" / "cases.csv"


def _scored(run: Planned, part: str, full: bool, mirror: bool) -> bool:
    """Whether this network's scores are complete: every case of the part, every region."""
    from ..evaluation.evaluate import read_summary
    from ..evaluation.tables import read_table

    spec, path = read_spec(run.model), scores_file(run, part, full, mirror)
    pathway = spec.full if full else spec.limited
    try:
        summary, table = read_summary(path.parent), read_table(path)
        found = set(zip(table.case, table.region))
    except (InputError, AttributeError):  # missing, truncated, or another table
        return False
    names = map(csv_cell, read_run(run.folder).split.part(part))
    wanted = {(name, csv_cell(region.id)) for name in names for region in spec.regions}
    same = not summary.weights or (pathway is not None and summary.weights == pathway.digest)
    return found == wanted and len(table) == len(wanted) and same


def _done(run: Planned, part: str, mirror: bool) -> bool:
    return _trained(run) and all(_scored(run, part, full, mirror) for full in _networks(run))
