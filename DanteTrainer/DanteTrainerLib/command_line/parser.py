"""Commands and arguments of the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from DanteSegmenterLib.program import path

from . import keeping, scoring, studies, training

WITH_PARENT = "--with-parent"


def parser() -> argparse.ArgumentParser:
    from ..settings.loading import list_experiments, list_studies

    description = "Train, evaluate, compare and publish segmentation networks."
    root = argparse.ArgumentParser(prog="python -m DanteTrainerLib", description=description)
    commands = root.add_subparsers(required=True)

    _add_train_and_resume(commands, ", ".join(list_experiments()))
    _add_evaluate(commands)
    _add_levels_and_cost(commands)
    _add_calibrate(commands)
    _add_study(commands, ", ".join(list_studies()))
    _add_features_and_publish(commands)
    cleaning = commands.add_parser("clean", help="remove the prepared images of patients that a run or a study keeps")
    cleaning.set_defaults(command=keeping.clean)
    cleaning.add_argument("folder", type=path, metavar="RUN", help="run folder, study folder, or cache of --cache")
    listing = commands.add_parser("list", help="methods, shipped studies with their sizes, and experiments")
    listing.set_defaults(command=studies.listing)
    return root


def _add_train_and_resume(commands: argparse._SubParsersAction, experiments: str) -> None:
    from ..methods import METHODS

    train = commands.add_parser("train", help="train a method on a dataset folder")
    train.set_defaults(command=training.train)
    train.add_argument("method", help=f"one of {', '.join(METHODS)}")
    train.add_argument(
        "--data", required=True, type=path, metavar="FOLDER", help="dataset: BraTS, MSD, nnU-Net, CT pairs"
    )
    train.add_argument("--out", required=True, type=path, metavar="RUN", help="new folder of this run")
    train.add_argument("--experiment", default="brats-2mm", help=f"file, or one of {experiments} (default: brats-2mm)")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    train.add_argument("--smoke", action="store_true", help="a few tiny steps of every stage: checks a dataset folder")
    train.add_argument("--name", default="", help="of the model; the method's name by default")
    train.add_argument("--cache", type=path, help="prepared cases, to share between runs (default: in the run folder)")
    _run_options(train)

    resume = commands.add_parser("resume", help="continue a run from its last checkpoint")
    resume.set_defaults(command=training.resume)
    resume.add_argument("run", type=path, metavar="RUN", help="run folder")
    resume.add_argument("--data", type=path, metavar="FOLDER", help="where the dataset is now")
    resume.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change optimiser.*, run.* or data.workers from now on",
    )
    _run_options(resume)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    evaluate = commands.add_parser("evaluate", help="Dice and HD95 of a model on a split of a dataset")
    evaluate.set_defaults(command=scoring.evaluate)
    _model_and_cases(evaluate)
    evaluate.add_argument(
        "--out", type=path, metavar="FOLDER", help="default: evaluation-SPLIT(-without-SCAN) in the current folder"
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
    levels = commands.add_parser("levels", help="scores with the encoder's deep levels replaced by their means")
    levels.set_defaults(command=scoring.levels)
    _model_and_cases(levels)
    levels.add_argument(
        "--out", type=path, default=Path("levels"), metavar="FOLDER", help="levels.csv (default: levels)"
    )
    _network_options(levels)
    _run_options(levels)

    cost = commands.add_parser("cost", help="parameters, multiply-adds, memory and seconds per case; steps of a run")
    cost.set_defaults(command=scoring.cost)
    _model_and_cases(cost, needed=False)
    cost.add_argument("--cases", type=int, default=3, metavar="N", help="of the split, to measure (default 3)")
    cost.add_argument("--full", action="store_true", help="the full-modality network instead of the deployed one")
    cost.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")


def _add_study(commands: argparse._SubParsersAction, shipped: str) -> None:
    study = commands.add_parser("study", help="train and compare several methods or settings; run again to continue")
    study.set_defaults(command=studies.study)
    study.add_argument("study", metavar="STUDY", help=f"TOML file, or one of {shipped}")
    study.add_argument("--data", required=True, type=path, metavar="FOLDER", help="dataset folder")
    study.add_argument("--out", required=True, type=path, metavar="FOLDER", help="runs, results.csv, results.md")
    study.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting, for all rows"
    )
    study.add_argument(
        "--size", default="", help="one of the study's sizes, e.g. paper, small, smoke (default: its first)"
    )
    study.add_argument("--seeds", type=int, nargs="+", default=[], metavar="N", help="seeds that replace the study's")
    study.add_argument("--split", help="to score on: val or test (default: the study's own, mostly test)")
    study.add_argument("--report", action="store_true", help="train nothing, only write the tables of finished runs")
    _run_options(study)


def _add_features_and_publish(commands: argparse._SubParsersAction) -> None:
    features = commands.add_parser("features", help="t-SNE of a DANTE model's bottleneck features")
    features.set_defaults(command=scoring.features)
    _model_and_cases(features)
    features.add_argument(
        "--out",
        type=path,
        default=Path("features"),
        metavar="FOLDER",
        help="feature_map.csv, feature_map.png (default: features)",
    )
    features.add_argument("--seed", type=int, default=0, help="of the patches and of t-SNE (default 0)")
    features.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")

    publish = commands.add_parser("publish", help="fill in a model's card: licence, citations, scores")
    publish.set_defaults(command=keeping.publish)
    publish.add_argument(
        "model",
        nargs="+",
        type=path,
        metavar="MODEL",
        help="model folder, or a run folder; of several that differ in their seed the logits are averaged",
    )
    publish.add_argument(
        "--card",
        required=True,
        type=path,
        metavar="TOML",
        help="licence, citations, intended use; two examples are in DanteTrainer/Resources/Cards",
    )
    publish.add_argument("--scores", action="append", default=[], type=path, metavar="FOLDER", help="from evaluate")
    publish.add_argument("--to", required=True, type=path, metavar="FOLDER", help="new model folder")
    publish.add_argument("--half", action="store_true", help="store weights as float16, in half the space")


def _add_calibrate(commands: argparse._SubParsersAction) -> None:
    calibrate = commands.add_parser("calibrate", help="fit the probabilities to the precision on validation cases")
    calibrate.set_defaults(command=scoring.calibrate)
    _model_and_cases(calibrate, split="val")
    _run_options(calibrate)


def _model_and_cases(parser: argparse.ArgumentParser, needed: bool = True, split: str = "test") -> None:
    parser.add_argument("model", type=path, metavar="MODEL", help="model folder, or a run folder")
    parser.add_argument("--data", required=needed, type=path, metavar="FOLDER", help="dataset folder")
    parser.add_argument("--split", default=split, help=f"train, val or test (default: {split})")
    parser.add_argument(
        "--split-file", type=path, metavar="JSON", help="the split; default: that of the run, else the dataset's"
    )


def _network_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mirror", action="store_true", help="average over mirrored images: eight times the time")
    parser.add_argument("--full", action="store_true", help="the full-modality network instead of the deployed one")


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    # For programs that start this in the background.
    parser.add_argument("--log", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(WITH_PARENT, action="store_true", help=argparse.SUPPRESS)
