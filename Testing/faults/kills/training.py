"""`train`, `evaluate` and `publish`, killed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from conftest import REPOSITORY
from datasets import write_dataset
from models import write_brain_model

from DanteSegmenterLib.errors import DanteError
from DanteSegmenterLib.model_folder import sha256_of
from DanteTrainerLib.__main__ import main as trainer
from DanteTrainerLib.evaluation.evaluate import CASES_FILE, SUMMARY_FILE, read_summary
from DanteTrainerLib.status import RUN_FILE
from faults.doors import ask
from faults.kills.commands import contents, unusable_model
from faults.kills.killing import Attempt, Command, killed
from faults.tally import Tally

CARD = REPOSITORY / "DanteTrainer" / "Resources" / "Cards" / "brats-without-t1ce.toml"


@contextmanager
def learning(folder: Path, tally: Tally) -> Iterator[Attempt]:
    """Train for a few tiny steps; the next run resumes."""
    data = write_dataset(folder / "data")

    def train(out: Path) -> list[object]:
        started = (out / "run" / RUN_FILE).exists()
        verb = ["resume"] if started else ["train", "lower", "--smoke", "--data", data, "--out"]
        return ["-m", "DanteTrainerLib", *verb, out / "run", "--quiet", "--device", "cpu"]

    command = Command(
        arguments=train,
        begin=lambda out: None,
        wrong=lambda out: "",  # the next run checks which checkpoint is whole
        result=lambda out: sha256_of(out / "run" / "model" / "limited.safetensors"),
    )
    with killed(command, folder, tally) as attempt:
        yield attempt


@contextmanager
def evaluating(folder: Path, tally: Tally) -> Iterator[Attempt]:
    """Evaluate three cases, over the scores of another model."""
    model, other = write_brain_model(folder / "model"), write_brain_model(folder / "other", seed=1)
    data = write_dataset(folder / "data")
    base = ["--data", data, "--split", "train", "--device", "cpu", "--quiet", "--out"]
    earlier = folder / "earlier"
    ask(trainer, ["evaluate", other, *base, earlier], folder)
    command = Command(
        arguments=lambda out: ["-m", "DanteTrainerLib", "evaluate", model, *base, out / "scores"],
        begin=lambda out: shutil.copytree(earlier, out / "scores"),
        wrong=lambda out: half_an_evaluation(out / "scores"),
        result=lambda out: (out / "scores" / CASES_FILE).read_text() + (out / "scores" / SUMMARY_FILE).read_text(),
    )
    with killed(command, folder, tally) as attempt:
        yield attempt


def half_an_evaluation(scores: Path) -> str:
    """Check that the table and its summary are whole and from one evaluation."""
    try:
        table, summary = pd.read_csv(scores / CASES_FILE), read_summary(scores)
    except (DanteError, OSError, ValueError) as error:
        return f"the earlier scores are lost: {error}"
    for region, own in table.groupby("region"):
        if abs(own.brats_dice.mean() - summary.regions[str(region)].brats_dice) > 1e-5:
            return f"'{CASES_FILE}' and '{SUMMARY_FILE}' are not of one evaluation"
    return ""


@contextmanager
def publishing(folder: Path, tally: Tally) -> Iterator[Attempt]:
    """Publish a trained model, over a published one."""
    data, run = write_dataset(folder / "data"), folder / "run"
    ask(trainer, ["train", "lower", "--data", data, "--out", run, "--smoke", "--quiet", "--device", "cpu"], folder)
    base, earlier = [run, "--card", CARD, "--to"], folder / "earlier"
    ask(trainer, ["publish", *base, earlier, "--half"], folder)
    command = Command(
        arguments=lambda out: ["-m", "DanteTrainerLib", "publish", *base, out / "public"],
        begin=lambda out: shutil.copytree(earlier, out / "public"),
        wrong=lambda out: unusable_model(out / "public"),
        result=lambda out: contents(out / "public"),
    )
    with killed(command, folder, tally) as attempt:
        yield attempt
