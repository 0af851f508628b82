"""Command line of the training half.

python -m DanteTrainerLib train | resume | evaluate | levels | cost | study | features | publish | clean | list
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from DanteSegmenterLib import program

from .ending import StopRequest, end_children, let_end

if TYPE_CHECKING:
    from .data.dataset import Dataset, Split

WITH_PARENT = "--with-parent"
# Everything else is imported where it is needed: until then a signal finds nothing that could get stuck.


def main(arguments: Sequence[str] | None = None, stop: StopRequest | None = None) -> int:
    """Run a command; 0 success, 1 stopped (resume goes on), 2 refused or failed with one line of reason.

    Args:
        stop: how a program is asked to end; None in a process of somebody else, whose signals are not ours.
    """

    def work() -> None:
        try:
            options = _parser().parse_args(arguments)
            options.stop = stop
            keep_freed_memory()
            options.command(options)
        except Exception:
            let_end()
            raise

    from DanteSegmenterLib.memory import keep_freed_memory

    return program.conclude(work)


def _parser() -> argparse.ArgumentParser:
    from .settings.experiment import list_experiments, list_studies

    parser = argparse.ArgumentParser(prog="python -m DanteTrainerLib", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)

    _add_train_and_resume(commands, ", ".join(list_experiments()))
    _add_evaluate(commands)
    _add_levels_and_cost(commands)
    _add_study(commands, ", ".join(list_studies()))
    _add_features_and_publish(commands)
    cleaning = commands.add_parser("clean", help="remove the prepared images of patients that a run or a study keeps")
    cleaning.set_defaults(command=_clean)
    cleaning.add_argument("folder", type=Path, metavar="RUN", help="run folder, study folder, or cache of --cache")
    listing = commands.add_parser("list", help="methods, shipped studies with their sizes, and experiments")
    listing.set_defaults(command=_list)
    return parser


def _add_train_and_resume(commands: argparse._SubParsersAction, experiments: str) -> None:
    from .methods import METHODS

    train = commands.add_parser("train", help="train a method on a dataset folder")
    train.set_defaults(command=_train)
    train.add_argument("method", help=f"one of {', '.join(METHODS)}")
    train.add_argument(
        "--data", required=True, type=Path, metavar="FOLDER", help="dataset: BraTS, MSD, nnU-Net, CT pairs"
    )
    train.add_argument("--out", required=True, type=Path, metavar="RUN", help="new folder of this run")
    train.add_argument("--experiment", default="brats-2mm", help=f"file, or one of {experiments}")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    train.add_argument("--smoke", action="store_true", help="a few tiny steps of every stage: checks a dataset folder")
    train.add_argument("--name", default="", help="of the model; the method's name by default")
    train.add_argument("--cache", type=Path, help="prepared cases, to share between runs (default: in the run folder)")
    _run_options(train)

    resume = commands.add_parser("resume", help="go on with a run from its last checkpoint")
    resume.set_defaults(command=_resume)
    resume.add_argument("run", type=Path, metavar="RUN")
    resume.add_argument("--data", type=Path, metavar="FOLDER", help="where the dataset lies now")
    resume.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change optimiser.*, run.* or data.workers, from here on",
    )
    _run_options(resume)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    evaluate = commands.add_parser("evaluate", help="Dice and HD95 of a model on a split of a dataset")
    evaluate.set_defaults(command=_evaluate)
    _model_and_cases(evaluate)
    evaluate.add_argument(
        "--out", type=Path, metavar="FOLDER", help="default: evaluation-SPLIT(-without-SCAN) in the current folder"
    )
    _network_options(evaluate)
    evaluate.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="SCAN",
        help="score as if a scan that the network reads were missing (t2, or t1,t2): its channel holds the network's "
        "value of background, 0 for MR; nothing is trained again",
    )
    _run_options(evaluate)


def _add_levels_and_cost(commands: argparse._SubParsersAction) -> None:
    levels = commands.add_parser("levels", help="what the encoder's levels are good for: scores with means in place")
    levels.set_defaults(command=_levels)
    _model_and_cases(levels)
    levels.add_argument("--out", type=Path, default=Path("levels"), metavar="FOLDER")
    _network_options(levels)
    _run_options(levels)

    cost = commands.add_parser("cost", help="parameters, multiply-adds, memory and seconds a case; of a run, its steps")
    cost.set_defaults(command=_cost)
    _model_and_cases(cost, needed=False)
    cost.add_argument("--cases", type=int, default=3, metavar="N", help="of the split, to measure (default 3)")
    cost.add_argument("--full", action="store_true", help="the full-modality network instead of the deployed one")
    cost.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")


def _add_study(commands: argparse._SubParsersAction, studies: str) -> None:
    study = commands.add_parser("study", help="train and compare several methods or settings; go on if run again")
    study.set_defaults(command=_study)
    study.add_argument("study", metavar="STUDY", help=f"TOML file, or one of {studies}")
    study.add_argument("--data", required=True, type=Path, metavar="FOLDER")
    study.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="runs, results.csv, results.md")
    study.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting, for all rows"
    )
    study.add_argument(
        "--size", default="", help="one of the study's sizes, e.g. paper, small, smoke (default: its first)"
    )
    study.add_argument("--split", help="to score on: val or test (default: the study's own, mostly test)")
    study.add_argument("--report", action="store_true", help="train nothing, write the tables of what is there")
    _run_options(study)


def _add_features_and_publish(commands: argparse._SubParsersAction) -> None:
    features = commands.add_parser("features", help="t-SNE of a DANTE model's bottleneck features")
    features.set_defaults(command=_features)
    _model_and_cases(features)
    features.add_argument("--out", type=Path, default=Path("features"), metavar="FOLDER")
    features.add_argument("--seed", type=int, default=0)
    features.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")

    publish = commands.add_parser("publish", help="fill in a model's card: licence, citations, scores")
    publish.set_defaults(command=_publish)
    publish.add_argument("model", type=Path, metavar="MODEL", help="model folder, or a run folder")
    publish.add_argument("--card", required=True, type=Path, metavar="TOML")
    publish.add_argument("--scores", action="append", default=[], type=Path, metavar="FOLDER", help="from evaluate")
    publish.add_argument("--to", required=True, type=Path, metavar="FOLDER", help="new model folder")
    publish.add_argument("--half", action="store_true", help="store weights as float16, in half the space")


def _model_and_cases(parser: argparse.ArgumentParser, needed: bool = True) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="model folder, or a run folder")
    parser.add_argument("--data", required=needed, type=Path, metavar="FOLDER", help="dataset folder")
    parser.add_argument("--split", default="test", help="train, val or test (default)")
    parser.add_argument(
        "--split-file", type=Path, metavar="JSON", help="the split; default: that of the run, else the dataset's"
    )


def _network_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mirror", action="store_true", help="average over mirrored images: eight times the time")
    parser.add_argument("--full", action="store_true", help="the full-modality network instead of the deployed one")


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    # For whoever starts this in the background.
    parser.add_argument("--log", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(WITH_PARENT, action="store_true", help=argparse.SUPPRESS)


def _train(options: argparse.Namespace) -> None:
    from .methods import method_named
    from .settings.experiment import load_experiment, smoke

    _begin(options, "Stopped before the first step; resume the run to go on.")
    method_named(options.method)
    experiment = load_experiment(options.experiment, options.set, method=options.method)
    experiment = smoke(experiment) if options.smoke else experiment

    from .loop.distributed import check_batch, join
    from .run.start import start_run

    group, _ = join(options.device)
    check_batch(experiment.data.batch_size, group)
    if group.leads:
        cache = options.cache.resolve() if options.cache else None
        start_run(experiment, options.data, options.out, options.name, cache)
    group.wait()
    _continue(options.out, options)


def _resume(options: argparse.Namespace) -> None:
    from .loop.distributed import join
    from .run.change import change_run

    _begin(options, "Stopped before the first step; resume the run to go on.")
    group, _ = join(options.device)
    if group.leads:
        change_run(options.run, options.data, options.set)
    group.wait()
    _continue(options.run, options)


def _continue(run: Path, options: argparse.Namespace) -> None:
    from .loop.distributed import join
    from .run.train import continue_run
    from .status import STOP_FILE

    group, device = join(options.device)
    if options.log:
        _log_to(run)
    stop: StopRequest | None = options.stop
    if stop is None:
        model = continue_run(run, device, options.quiet, group=group)
    else:
        if group.size > 1:
            stop.end_with_parent()
        with stop.watching(run / STOP_FILE):
            model = continue_run(run, device, options.quiet, stop, group)
    if group.leads:
        print(f"model: {model}")


def _begin(options: argparse.Namespace, stopped: str) -> None:
    """Have the command end in these words when it is stopped and has nothing to save."""
    if options.stop is not None:
        options.stop.message = stopped


def _log_to(run: Path) -> None:
    """What is printed from here on goes to the run's train.log: a pipe would end with whoever reads it."""
    from .status import LOG_FILE

    if not run.is_dir():
        return
    sys.stdout.flush()
    with open(run / LOG_FILE, "a", encoding="utf-8") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
    os.dup2(sys.stdout.fileno(), sys.stderr.fileno())


def _evaluate(options: argparse.Namespace) -> None:
    from .data.dataset import remarks_on_labels
    from .evaluation.evaluate import evaluate

    _begin(options, "Stopped; there are no new scores.")
    folder, dataset, split = _opened(options)
    for remark in remarks_on_labels(dataset, split.part(options.split)):
        print(f"note: {remark}")
    dropped = list(dict.fromkeys(name.strip() for names in options.drop for name in names.split(",")))
    out = options.out or Path("-".join(["evaluation", options.split, *(["without", *dropped] if dropped else [])]))
    scores = evaluate(
        folder, dataset, split, options.split, out, options.device, options.quiet, options.full, options.mirror, dropped
    )
    print(scores.table())
    print(f"wrote {out}")


def _levels(options: argparse.Namespace) -> None:
    from .evaluation.levels import ablate_levels, levels_table

    _begin(options, "Stopped; there are no new scores.")
    folder, dataset, split = _opened(options)
    names = split.part(options.split)
    table = ablate_levels(
        folder, dataset, names, options.out, options.device, options.quiet, options.full, options.mirror
    )
    print(levels_table(table))
    print(f"wrote {options.out}")


def _cost(options: argparse.Namespace) -> None:
    from DanteSegmenterLib.inference import load_model

    from .data.dataset import check_cases
    from .evaluation.cost import cost_of, training_cost, training_table
    from .evaluation.subject import load_for, pathway_of

    _begin(options, "Stopped; nothing was measured.")
    if options.data is None:
        cost = cost_of(load_model(_model_folder(options.model), options.device), options.full)
    else:
        folder, dataset, split = _opened(options)
        model, names = load_for(dataset, folder, options.device), split.part(options.split)[: max(1, options.cases)]
        check_cases(dataset, names, pathway_of(model.spec, options.full).modalities, labelled=False)
        cost = cost_of(model, options.full, [dataset.cases[name] for name in names])
    print(cost.table())
    stages = training_cost(options.model)
    if stages:
        print(training_table(stages))


def _opened(options: argparse.Namespace) -> tuple[Path, Dataset, Split]:
    """The model's folder, the dataset, and the split that its scores are of."""
    from .data.dataset import read_dataset
    from .run.split import split_for

    dataset = read_dataset(options.data)
    return _model_folder(options.model), dataset, split_for(options.model, dataset, options.split_file)


def _model_folder(path: Path) -> Path:
    """A run folder stands for the model it ended in."""
    from .status import RUN_FILE

    return path / "model" if (path / RUN_FILE).is_file() else path


def _study(options: argparse.Namespace) -> None:
    from .settings.experiment import list_studies
    from .study.plan import plan
    from .study.report import write_report
    from .study.run import run_study
    from .study.study_file import read_study

    _begin(options, "Stopped; run the study again to go on.")
    study = read_study(list_studies().get(options.study, Path(options.study))).sized(options.size)
    study = replace(study, set=(*study.set, *options.set))
    runs, split = plan(study, options.out), options.split or study.split
    if not options.report:
        stop = options.stop or (lambda: False)
        run_study(study, options.data, options.out, split, options.device, options.quiet, stop)
    print(write_report(study, runs, split, options.out))


def _features(options: argparse.Namespace) -> None:
    from .evaluation.feature_map import draw_feature_map

    _begin(options, "Stopped; there is no map.")
    folder, dataset, split = _opened(options)
    names = split.part(options.split)
    draw_feature_map(folder, dataset, names, options.out, options.device, seed=options.seed)
    print(f"wrote {options.out}")


def _publish(options: argparse.Namespace) -> None:
    from .release.publish import publish

    _begin(options, "Stopped; nothing was published.")
    spec = publish(_model_folder(options.model), options.card, options.scores, options.to, options.half)
    print(f"published {spec.name} {spec.version} to {options.to}")


def _clean(options: argparse.Namespace) -> None:
    from .study.clean import clean

    _begin(options, "Stopped; run it again for the rest.")
    print(clean(options.folder))


def _list(_: argparse.Namespace) -> None:
    from .methods import METHODS
    from .settings.experiment import list_experiments, list_studies
    from .study.study_file import read_study

    print("methods:")
    for name, method in METHODS.items():
        print(f"  {name:<12} {(method.__doc__ or '').strip().splitlines()[0]}")
    print("studies:")
    for name, path in list_studies().items():
        sizes = ", ".join(read_study(path).size)
        first_line = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        print(f"  {name:<12} {first_line}{f' (--size {sizes})' if sizes else ''}")
    print("experiments:")
    for name, path in list_experiments().items():
        print(f"  {name:<12} {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")


def run() -> None:
    """The command line as a process of its own: its streams, its signals, and nothing left behind."""
    program.prepare_streams()
    stop = StopRequest()
    if WITH_PARENT in sys.argv:  # at once: the parent may be gone before torch is imported
        stop.end_with_standard_input()
    code = main(stop=stop)
    end_children()
    program.leave(code)


if __name__ == "__main__":
    run()
