"""A study: several methods and settings trained and scored under equal conditions, from one TOML file.

Runs are taken in order. One that is finished is skipped, one that was cut short is resumed, one that another process
works on is left to it: the same command started twice, or on two machines over one folder, shares the work.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from DanteSegmenterLib.errors import Cancelled, ConfigError, DanteError, InputError, ModelError, reason, sentence_of
from DanteSegmenterLib.guard.plain_text import csv_cell
from DanteSegmenterLib.model_folder import read_spec
from DanteSegmenterLib.strict_dataclass import from_plain

from ..data.dataset import Dataset, read_dataset, read_split
from ..ending import let_end
from ..methods import method_named
from ..run.change import change_run
from ..run.run_folder import MODEL_FOLDER, read_run
from ..run.split import split_for
from ..run.start import start_run
from ..run.train import continue_run
from ..settings.experiment import Experiment, load_experiment
from ..status import RUN_FILE
from ..whole_files import make_writable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WAIT_SECONDS = 10
RUNS_FOLDER, CACHE_FOLDER = "runs", "cache"


@dataclass(frozen=True)
class Entry:
    """One row of the table: a method with its differences from the study's common settings.

    Attributes:
        name: in tables; letters, digits, spaces and -+.=_ only, for folders are named after it.
        method: one of METHODS.
        set: "key=value" settings; {NAME} stands for the model folder of entry NAME with the same seed.
        seeds: instead of the study's.
    """

    name: str
    method: str
    set: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """One setting at several values, all else as it is."""

    method: str
    key: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        experiment: name or file of the common settings.
        set: "key=value" differences from it, for all.
        seeds: of every entry that names none.
        entry: the rows.
        sweep: expanded to a row a value.
        baseline, ceiling: entries between which the gap is measured.
        region: whose gap.
        mirror: score with mirroring at test time.
    """

    experiment: str
    set: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1,)
    entry: tuple[Entry, ...] = ()
    sweep: tuple[Sweep, ...] = ()
    baseline: str = "lower"
    ceiling: str = "upper"
    region: str = ""
    mirror: bool = False

    def entries(self) -> list[Entry]:
        """All rows; those of a sweep are named METHOD KEY=VALUE."""
        swept = [
            Entry(sweep_name(sweep, value), sweep.method, (f"{sweep.key}={value:g}",))
            for sweep in self.sweep
            for value in sweep.values
        ]
        return [*self.entry, *swept]


def sweep_name(sweep: Sweep, value: float) -> str:
    """The row of one value."""
    return f"{sweep.method} {sweep.key.split('.')[-1]}={value:g}"


def folder_name(name: str) -> str:
    """Of a row's runs; also where capitals do not tell folders apart."""
    return name.replace(" ", "_")


@dataclass(frozen=True)
class Planned:
    """One training of the study.

    Attributes:
        entry, seed: what.
        folder: of its run.
        needs: model folders of other runs that must be there first.
    """

    entry: Entry
    seed: int
    folder: Path
    experiment: Experiment
    needs: tuple[Path, ...] = ()

    @property
    def model(self) -> Path:
        return self.folder / MODEL_FOLDER


def read_study(path: Path) -> Study:
    """Read a study file.

    Raises:
        ConfigError: not TOML, an unknown key, two rows of one name, or a name that cannot be a folder's.
    """
    try:
        plain: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        study = from_plain(Study, plain, path.name, ConfigError)
    except OSError as error:
        raise ConfigError(f"the study '{path}' cannot be read: {reason(error)}.") from None
    except (ValueError, RecursionError) as error:  # not TOML, or not UTF-8
        raise ConfigError(f"'{path}' is not valid TOML: {error}.") from None
    names = [entry.name for entry in study.entries()]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path.name}: two rows are named '{name}'.")
        if not name or not all(letter.isalnum() or letter in " -+.=_" for letter in name) or name.startswith("."):
            raise ConfigError(f"{path.name}: '{name}' cannot name a row; use letters, digits, spaces and -+.=_")
    folders = [folder_name(name).casefold() for name in names]
    for name, folder in zip(names, folders):
        if folders.count(folder) > 1:
            raise ConfigError(f"{path.name}: '{name}' and another row would be trained in one folder; rename one.")
    if not names:
        raise ConfigError(f"{path.name}: nothing to train; add [[entry]] or [[sweep]] tables.")
    return study


def plan(study: Study, folder: Path) -> list[Planned]:
    """All trainings in order, seeds innermost, with every setting checked.

    Raises:
        ConfigError: an unknown setting, method or {NAME}.
    """
    entries = {entry.name: entry for entry in study.entries()}

    def run_folder(name: str, seed: int) -> Path:
        return folder / RUNS_FOLDER / f"{folder_name(name)}-seed{seed}"

    runs = []
    for entry in entries.values():
        method_named(entry.method)
        for seed in entry.seeds or study.seeds:
            settings, needs = [*study.set, *entry.set, f"seed={seed}"], []
            for name in entries:
                if any(f"{{{name}}}" in text for text in entry.set):
                    needs.append(run_folder(name, seed) / MODEL_FOLDER)
                    settings = [text.replace(f"{{{name}}}", str(needs[-1].resolve())) for text in settings]
            unknown = [text for text in settings if "={" in text]
            if unknown:
                raise ConfigError(f"'{entry.name}': '{unknown[0]}' names no row of the study.")
            experiment = load_experiment(study.experiment, settings, method=entry.method)
            runs.append(Planned(entry, seed, run_folder(entry.name, seed), experiment, tuple(needs)))
    return runs


def run_study(
    study: Study,
    data: Path,
    folder: Path,
    split: str,
    device: str = "auto",
    quiet: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train and score all runs that are not done yet, and wait for those that other processes work on.

    A run that fails is told and left; the others go on, but for those that need its model.

    Raises:
        DanteError: before anything runs, what cannot work; after all others ran, of the first run that failed.
        Cancelled: `stop` said so.
    """
    dataset = read_dataset(data)
    planned = plan(study, folder)
    missing = {need for run in planned for need in run.needs} - {run.model for run in planned}
    if missing:
        raise ConfigError(f"no row of the study trains '{min(missing)}' (the same seed is needed).")
    for run in planned:
        _check_settings(run)
    read_split(dataset, seed=planned[0].experiment.data.split_seed).part(split)
    make_writable(folder)
    how = _How(data, dataset, folder / CACHE_FOLDER, split, device, quiet, stop, study.mirror)
    failed: dict[Path, Exception] = {}
    left = planned
    while left:
        waiting = [run for run in left if not _worked_on(run, how, failed)]
        if waiting and len(waiting) == len(left):
            time.sleep(WAIT_SECONDS)
        left = waiting
    for error in failed.values():
        raise error


@dataclass(frozen=True)
class _How:
    """What all runs of a study are trained and scored with."""

    data: Path
    dataset: Dataset
    cache: Path
    split: str
    device: str
    quiet: bool
    stop: Callable[[], bool]
    mirror: bool


def _worked_on(run: Planned, how: _How, failed: dict[Path, Exception]) -> bool:
    """Do what is to be done on a run; False if it has to wait: for a model it needs, or for who works on it."""
    if how.stop():
        raise Cancelled("Stopped; run the study again to go on.")
    if _done(run, how.split, how.mirror):
        return True
    if any(need.parent in failed for need in run.needs):
        failed[run.folder] = DanteError(f"'{run.entry.name}' needs the model of a run that failed.")
        return True
    if not all(need.is_dir() for need in run.needs):
        return False
    try:
        with _claimed(run):
            _train(run, how)
            if how.stop():
                raise Cancelled("Stopped before the scores; run the study again to go on.")
            score(run, how.dataset, how.split, how.device, how.quiet, how.mirror)
    except Timeout:
        return False
    except Cancelled:
        raise
    except Exception as error:  # of one row; the others are worth having all the same
        let_end()
        print(f"error: '{run.entry.name}', seed {run.seed}: {sentence_of(error)}", file=sys.stderr, flush=True)
        failed[run.folder] = error
    return True


def _claimed(run: Planned) -> FileLock:
    """Held while a process works on a run; filelock.Timeout at once where another holds it."""
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(run.folder.with_name(f".{run.folder.name}.lock"), timeout=0)


def _train(run: Planned, how: _How) -> None:
    print(f"{run.entry.name}, seed {run.seed}", flush=True)
    if not (run.folder / RUN_FILE).is_file():
        cache = os.path.relpath(how.cache, run.folder)  # a study that is moved takes its cache along
        start_run(run.experiment, how.data, run.folder, run.entry.name, Path(cache))
    elif not _trained(run):
        change_run(run.folder, how.data, (f"data.workers={run.experiment.data.workers}",))
    if not _trained(run):
        continue_run(run.folder, how.device, how.quiet, how.stop)


def _check_settings(run: Planned) -> None:
    """
    Raises:
        ConfigError: the run was begun with other settings; but for the number of processes, which changes no result.
    """
    if not (run.folder / RUN_FILE).is_file():
        return
    begun = read_run(run.folder).experiment
    if replace(begun, data=replace(begun.data, workers=run.experiment.data.workers)) != run.experiment:
        raise ConfigError(
            f"'{run.folder}' was trained with other settings than the study now asks for; use another folder."
        )


def _trained(run: Planned) -> bool:
    try:
        return bool(read_spec(run.model))
    except ModelError:
        return False


def _networks(run: Planned) -> list[bool]:
    """Of f_L, and of f_F where the method has one: whether it is the full network."""
    return [False] + [True] * (read_spec(run.model).full is not None)


def score(run: Planned, dataset: Dataset, part: str, device: str, quiet: bool, mirror: bool = False) -> None:
    """Evaluate f_L, and f_F where the method has one."""
    from ..evaluation.evaluate import evaluate

    for full in _networks(run):
        if not _scored(run, part, full, mirror):
            split, out = split_for(run.folder, dataset), scores_file(run, part, full, mirror).parent
            evaluate(run.model, dataset, split, part, out, device, quiet, full, mirror)


def scores_file(run: Planned, part: str, full: bool = False, mirror: bool = False) -> Path:
    """Where a run's scores are."""
    return run.folder / f"evaluation-{part}{'-full' * full}{'-mirror' * mirror}" / "cases.csv"


def _scored(run: Planned, part: str, full: bool, mirror: bool) -> bool:
    """Whether the scores of this network are there, whole: every case of the part, every region."""
    from ..evaluation.evaluate import read_summary
    from ..evaluation.tables import read_table

    spec, path = read_spec(run.model), scores_file(run, part, full, mirror)
    pathway = spec.full if full else spec.limited
    try:
        summary, table = read_summary(path.parent), read_table(path)
        found = set(zip(table.case, table.region))
    except (InputError, AttributeError):  # not there, cut, or another table
        return False
    names = map(csv_cell, read_run(run.folder).split.part(part))
    wanted = {(name, csv_cell(region.id)) for name in names for region in spec.regions}
    same = not summary.weights or (pathway is not None and summary.weights == pathway.sha256)
    return found == wanted and len(table) == len(wanted) and same


def _done(run: Planned, part: str, mirror: bool) -> bool:
    return _trained(run) and all(_scored(run, part, full, mirror) for full in _networks(run))
