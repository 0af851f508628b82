"""Command line of the training half.

python -m DanteTrainerLib train | resume | evaluate | study | features | publish | list
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from DanteSegmenterLib.errors import Cancelled, DanteError
from DanteSegmenterLib.memory import keep_freed_memory

from .ending import StopRequest
from .methods import METHODS, method_named
from .settings.experiment import list_experiments, list_studies, load_experiment, smoke
from .status import LOG_FILE, RUN_FILE, STOP_FILE


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 success, 1 stopped (resume goes on), 2 refused with one line of reason."""
    options = _parser().parse_args(arguments)
    keep_freed_memory()
    try:
        options.command(options)
        return 0
    except Cancelled as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 1
    except DanteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m DanteTrainerLib", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)

    _add_train_and_resume(commands)
    _add_evaluate(commands)
    _add_study(commands)
    _add_features_and_publish(commands)
    listing = commands.add_parser("list", help="methods and shipped experiments")
    listing.set_defaults(command=_list)
    return parser


def _add_train_and_resume(commands: argparse._SubParsersAction) -> None:
    train = commands.add_parser("train", help="train a method on a dataset folder")
    train.set_defaults(command=_train)
    train.add_argument("method", help=f"one of {', '.join(METHODS)}")
    train.add_argument(
        "--data", required=True, type=Path, metavar="FOLDER", help="dataset: BraTS, MSD, nnU-Net, CT pairs"
    )
    train.add_argument("--out", required=True, type=Path, metavar="RUN", help="new folder of this run")
    train.add_argument("--experiment", default="brats-2mm", help=f"file, or one of {', '.join(list_experiments())}")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    train.add_argument("--smoke", action="store_true", help="a few tiny steps of every stage: checks a dataset folder")
    train.add_argument("--name", default="", help="of the model; the method's name by default")
    train.add_argument("--cache", type=Path, help="prepared cases, to share between runs (default: in the run folder)")
    _run_options(train)

    resume = commands.add_parser("resume", help="go on with a run from its last checkpoint")
    resume.set_defaults(command=_resume)
    resume.add_argument("run", type=Path, metavar="RUN")
    _run_options(resume)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    evaluate = commands.add_parser("evaluate", help="Dice and HD95 of a model on a split of a dataset")
    evaluate.set_defaults(command=_evaluate)
    evaluate.add_argument("model", type=Path, metavar="MODEL", help="model folder, or a run folder")
    evaluate.add_argument("--data", required=True, type=Path, metavar="FOLDER")
    evaluate.add_argument("--split", default="test", help="train, val or test (default)")
    evaluate.add_argument("--out", type=Path, metavar="FOLDER", help="default: evaluation-SPLIT in the current folder")
    _split_option(evaluate)
    evaluate.add_argument("--mirror", action="store_true", help="average over mirrored images: eight times the time")
    evaluate.add_argument("--full", action="store_true", help="the full-modality network instead of the deployed one")
    _run_options(evaluate)


def _add_study(commands: argparse._SubParsersAction) -> None:
    study = commands.add_parser("study", help="train and compare several methods or settings; go on if run again")
    study.set_defaults(command=_study)
    study.add_argument("study", metavar="STUDY", help=f"TOML file, or one of {', '.join(list_studies())}")
    study.add_argument("--data", required=True, type=Path, metavar="FOLDER")
    study.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="runs, results.csv, results.md")
    study.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting, for all rows"
    )
    study.add_argument("--split", default="test", help="to score on: val or test (default)")
    study.add_argument("--report", action="store_true", help="train nothing, write the tables of what is there")
    _run_options(study)


def _add_features_and_publish(commands: argparse._SubParsersAction) -> None:
    features = commands.add_parser("features", help="t-SNE of a DANTE model's bottleneck features")
    features.set_defaults(command=_features)
    features.add_argument("model", type=Path, metavar="MODEL", help="model folder, or a run folder")
    features.add_argument("--data", required=True, type=Path, metavar="FOLDER")
    features.add_argument("--split", default="test", help="train, val or test (default)")
    _split_option(features)
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


def _split_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split-file", type=Path, metavar="JSON", help="the split; default: that of the run, else the dataset's"
    )


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    # For whoever starts this in the background.
    parser.add_argument("--log", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)


def _train(options: argparse.Namespace) -> None:
    from .loop.distributed import check_batch, join
    from .run.start import start_run

    stop = _stop_request(options)
    method_named(options.method)
    experiment = load_experiment(options.experiment, options.set, method=options.method)
    experiment = smoke(experiment) if options.smoke else experiment
    group, _ = join(options.device)
    check_batch(experiment.data.batch_size, group)
    if group.leads:
        start_run(experiment, options.data, options.out, options.name, options.cache)
    group.wait()
    _continue(options.out, options, stop)


def _resume(options: argparse.Namespace) -> None:
    _continue(options.run, options, _stop_request(options))


def _continue(run: Path, options: argparse.Namespace, stop: StopRequest) -> None:
    from .loop.distributed import join
    from .run.train import continue_run

    group, device = join(options.device)
    if options.log:
        _log_to(run)
    with stop.watching(run / STOP_FILE):
        model = continue_run(run, device, options.quiet, stop, group)
    if group.leads:
        print(f"model: {model}")


def _stop_request(options: argparse.Namespace) -> StopRequest:
    return StopRequest(options.with_parent, "Stopped before the first step; resume the run to go on.")


def _log_to(run: Path) -> None:
    """What is printed from here on goes to the run's train.log: a pipe would end with whoever reads it."""
    if not run.is_dir():
        return
    sys.stdout.flush()
    with open(run / LOG_FILE, "a", encoding="utf-8") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
    os.dup2(sys.stdout.fileno(), sys.stderr.fileno())


def _evaluate(options: argparse.Namespace) -> None:
    from .data.dataset import read_dataset, remarks_on_labels
    from .evaluation.evaluate import evaluate
    from .run.split import split_for

    if options.with_parent:
        StopRequest(True, "Stopped; there are no scores.")
    folder, dataset = _model_folder(options.model), read_dataset(options.data)
    split = split_for(options.model, dataset, options.split_file)
    for remark in remarks_on_labels(dataset, split.part(options.split)):
        print(f"note: {remark}")
    out = options.out or Path(f"evaluation-{options.split}")
    scores = evaluate(
        folder, dataset, split, options.split, out, options.device, options.quiet, options.full, options.mirror
    )
    print(scores.table())
    print(f"wrote {out}")


def _model_folder(path: Path) -> Path:
    """A run folder stands for the model it ended in."""
    return path / "model" if (path / RUN_FILE).is_file() else path


def _study(options: argparse.Namespace) -> None:
    from .study.report import write_report
    from .study.run import plan, read_study, run_study

    study = read_study(list_studies().get(options.study, Path(options.study)))
    study = replace(study, set=(*study.set, *options.set))
    runs = plan(study, options.out)
    if not options.report:
        stop = StopRequest(options.with_parent, "Stopped; run the study again to go on.")
        run_study(study, options.data, options.out, options.split, options.device, options.quiet, stop)
    print(write_report(study, runs, options.split, options.out))


def _features(options: argparse.Namespace) -> None:
    from .data.dataset import read_dataset
    from .evaluation.feature_map import draw_feature_map
    from .run.split import split_for

    folder, dataset = _model_folder(options.model), read_dataset(options.data)
    names = split_for(options.model, dataset, options.split_file).part(options.split)
    draw_feature_map(folder, dataset, names, options.out, options.device, seed=options.seed)
    print(f"wrote {options.out}")


def _publish(options: argparse.Namespace) -> None:
    from .release.publish import publish

    spec = publish(_model_folder(options.model), options.card, options.scores, options.to, options.half)
    print(f"published {spec.name} {spec.version} to {options.to}")


def _list(_: argparse.Namespace) -> None:
    print("methods:")
    for name, method in METHODS.items():
        print(f"  {name:<12} {(method.__doc__ or '').strip().splitlines()[0]}")
    print("studies:")
    for name, path in list_studies().items():
        print(f"  {name:<12} {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
    print("experiments:")
    for name, path in list_experiments().items():
        print(f"  {name:<12} {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")


if __name__ == "__main__":
    sys.exit(main())
