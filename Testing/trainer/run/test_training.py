"""A complete tiny training: its files, and that it is bit-identical when killed and resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import REPOSITORY

from DanteSegmenterLib.errors import Cancelled, InputError, ResourceError
from DanteSegmenterLib.model_folder import Calibration, read_spec, sha256_of
from DanteSegmenterLib.networks import instance_norm
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.data.dataset import Dataset, make_split, read_dataset
from DanteTrainerLib.evaluation.evaluate import calibration_of, read_summary
from DanteTrainerLib.loop import trainer as loop
from DanteTrainerLib.loop.history import seconds_trained
from DanteTrainerLib.loop.optimiser import TrainingFailed
from DanteTrainerLib.run.run_folder import read_run
from DanteTrainerLib.run.split import split_for
from DanteTrainerLib.run.start import start_run
from DanteTrainerLib.run.train import continue_run
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.smoke import smoke


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert (
        main(["train", "lower", "--data", str(data), "--out", str(out), "--smoke", "--quiet", "--device", "cpu"]) == 0
    )
    return out


def weights(run):
    return sha256_of(run / "model" / "limited.safetensors")


def test_smoke_run_ends_in_a_model_folder_like_a_full_run(whole):
    assert sorted(os.listdir(whole / "model")) == ["README.md", "limited.safetensors", "model.json", "provenance.json"]
    assert {"checkpoint.pt", "checkpoint.previous.pt", "log.csv", "curves.png", "run.json"} <= set(os.listdir(whole))
    spec = read_spec(whole / "model")
    assert spec.limited.modalities == ("t1", "t2", "flair") and spec.privileged == "t1ce"
    provenance = (whole / "model" / "provenance.json").read_text()
    assert str(whole) not in provenance and json.loads(provenance)["cases"]["train"] == 3
    log = (whole / "log.csv").read_text().splitlines()
    assert log[0].startswith("stage,step,loss,loss_segmentation") and log[-1].startswith("supervised,10,")


def test_repeated_run_is_bit_identical(whole, data, tmp_path):
    assert main(["train", "lower", "--data", str(data), "--out", str(tmp_path / "r"), "--smoke", "--quiet"]) == 0
    assert weights(tmp_path / "r") == weights(whole)


@pytest.mark.parametrize("steps", [1, 4, 5, 6, 9])
def test_run_stopped_after_any_step_and_resumed_is_bit_identical(whole, data, tmp_path, steps):
    run = tmp_path / "run"
    start_run(smoke(load_experiment("brats-2mm", method="lower")), data, run)
    asked = iter([False] * (steps - 1) + [True])
    with pytest.raises(Cancelled, match=f"after step {steps} "):
        continue_run(run, "cpu", quiet=True, stop=lambda: next(asked))
    continue_run(run, "cpu", quiet=True)
    assert weights(run) == weights(whole)
    assert (run / "log.csv").read_text().count("supervised,10,") == 1


KILL_DURING_CHECKPOINT = """
import os, signal, sys
import DanteTrainerLib.loop.checkpoint as checkpoint
from DanteTrainerLib.loop import trainer as loop
from DanteTrainerLib.__main__ import main
real, count = os.fsync, 0
def fsync(handle):
    global count
    count += 1
    if count == {at}:
        os.kill(os.getpid(), signal.SIGKILL)  # the temporary file is written, not yet in place
    real(handle)
checkpoint.os.fsync = fsync
sys.exit(main(sys.argv[1:]))
"""


def python(*arguments, **options):
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.Popen([sys.executable, *arguments], env=environment, stderr=subprocess.PIPE, **options)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("at", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_run_killed_while_writing_a_checkpoint_and_resumed_is_bit_identical(whole, data, tmp_path, at):
    run = tmp_path / "run"
    train = ["train", "lower", "--data", str(data), "--out", str(run), "--smoke", "--quiet", "--device", "cpu"]
    process = python("-c", KILL_DURING_CHECKPOINT.format(at=at), *train)
    assert process.wait(120) == -signal.SIGKILL and not (run / "model").exists()
    process.stderr.close()
    assert main(["resume", str(run), "--quiet", "--device", "cpu"]) == 0
    assert weights(run) == weights(whole)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_run_killed_at_some_moment_and_resumed_is_bit_identical(whole, data, tmp_path):
    run = tmp_path / "run"
    train = ["-m", "DanteTrainerLib", "train", "lower", "--data", str(data), "--out", str(run), "--smoke", "--quiet"]
    process = python(*train)
    deadline = time.time() + 120
    while not (run / "checkpoint.pt").exists() and process.poll() is None and time.time() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    process.stderr.close()
    assert main(["resume", str(run), "--quiet"]) == 0
    assert weights(run) == weights(whole)


def test_resuming_a_finished_run_writes_the_same_model(whole):
    before = weights(whole)
    assert main(["resume", str(whole), "--quiet"]) == 0
    assert weights(whole) == before


def test_run_in_use_is_refused(whole):
    from filelock import FileLock

    with FileLock(whole / ".lock"), pytest.raises(ResourceError, match="another process works on the run"):
        continue_run(whole, "cpu", quiet=True)


def test_non_finite_loss_stops_the_run_with_advice_and_saves_nothing(data, tmp_path):
    run = tmp_path / "run"
    experiment = load_experiment("brats-2mm", ["learning_rate=1e30", "clip_norm=1e30"], method="lower")
    start_run(smoke(experiment), data, run)
    with pytest.raises(TrainingFailed, match=r"not finite.*--set optimiser\.learning_rate=1e\+29"):
        continue_run(run, "cpu", quiet=True)
    assert not (run / "model").exists() and not (run / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["train", "loser", "--data", "D", "--out", "O"], "Did you mean 'lower'"),
        (["train", "lower", "--data", "nowhere", "--out", "O"], "does not exist"),
        (["train", "lower", "--data", "D", "--out", "D"], "exists and is not empty"),
        (["train", "lower", "--data", "D", "--out", "O", "--set", "stepz=1"], "unknown key"),
        (["train", "lower", "--data", "D", "--out", "O", "--experiment", "mine"], "there is no experiment"),
        (["train", "lower", "--data", "D", "--out", "O", "--set", "task=chest"], "holds 'brain'"),
        (["train", "lower", "--data", "D", "--out", "O", "--device", "abacus"], "unknown device 'abacus'"),
        (["study", "ablations", "--data", "D", "--out", "O", "--device", "abacus"], "unknown device 'abacus'"),
        (["resume", "nowhere"], "is no run folder"),
        (["evaluate", "nowhere", "--data", "D"], "no model folder"),
    ],
)
def test_impossible_run_is_refused_in_one_line_before_the_first_step(data, tmp_path, capsys, arguments, reason):
    places = {"D": str(data), "O": str(tmp_path / "out")}
    assert main([places.get(argument, argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and reason in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("given", "name"), [(" \t", "lower"), ("H\udcf6he\n2", "H\\xf6he 2"), ("Höhe", "Höhe")])
def test_model_name_is_known_before_the_first_step(data, tmp_path, given, name):
    start_run(smoke(load_experiment("brats-2mm", method="lower")), data, tmp_path / "run", given)
    assert read_run(tmp_path / "run").name == name


def test_evaluate_writes_scores_and_a_picture_using_the_inference_of_the_window(whole, data, tmp_path, capsys):
    out = tmp_path / "scores"
    assert main(["evaluate", str(whole), "--data", str(data), "--split", "test", "--out", str(out), "--quiet"]) == 0
    assert sorted(os.listdir(out)) == ["cases.csv", "contact_sheet.png", "summary.json"]
    rows = (out / "cases.csv").read_text().splitlines()
    assert rows[0].startswith("model,case,region,dice,hd95_mm") and len(rows) == 1 + 3
    printed, lesions = capsys.readouterr().out, pd.read_csv(out / "cases.csv").set_index("region").loc["WT"]
    assert f"| {lesions.lesion_dice:.3f} | {lesions.lesion_hd95_mm:.1f} |" in printed
    assert "| WT |" in printed and "test split, 1 cases, without mirroring." in printed


def test_mirrored_scores_are_a_separate_average_named_in_every_table(whole, data, tmp_path, capsys):
    base = ["evaluate", str(whole), "--data", str(data), "--split", "val", "--quiet"]
    assert main([*base, "--out", str(tmp_path / "plain")]) == 0
    assert main([*base, "--out", str(tmp_path / "mirrored"), "--mirror"]) == 0
    assert "val split, 1 cases, averaged over the eight mirrorings of each window." in capsys.readouterr().out
    plain, mirrored = (pd.read_csv(tmp_path / name / "cases.csv") for name in ("plain", "mirrored"))
    assert (plain.confidence - mirrored.confidence).abs().max() > 1e-4
    assert read_summary(tmp_path / "mirrored").mirror and not read_summary(tmp_path / "plain").mirror


def test_training_step_with_each_norm_formulation_lowers_the_loss_equally(data, tmp_path, monkeypatch):
    """20 steps in float32: the curves differ only by rounding, which accumulates over steps."""
    curves = []
    for name in ("group_norm", "rows", "torch"):
        monkeypatch.setattr(instance_norm, "fastest", lambda x, name=name: name)
        experiment = smoke(load_experiment("brats-2mm", ["run.precision=fp32"], method="lower"))
        experiment = replace(experiment, run=replace(experiment.run, steps=20, validate_every=0))
        monkeypatch.setattr(loop, "LOG_EVERY", 1)
        start_run(experiment, data, tmp_path / name)
        continue_run(tmp_path / name, "cpu", quiet=True)
        curves.append(pd.read_csv(tmp_path / name / "log.csv").loss.to_numpy())
    assert len(curves[0]) == 20 and curves[0][-1] < curves[0][0]
    for curve in curves[1:]:
        assert curve == pytest.approx(curves[0], abs=2e-4)


class TestTheSplitAModelIsScoredBy:
    @pytest.fixture
    def unsplit(self, data, tmp_path):
        """Ten cases without a split.json, and a run that drew its split with another seed than the default."""
        folder = tmp_path / "unsplit"
        for n, name in enumerate("ABCDEFGHIJ"):
            shutil.copytree(data / "ABCDE"[n % 5], folder / name)
            for file in (folder / name).iterdir():
                file.rename(file.with_name(name + file.name[1:]))
        run = tmp_path / "run"
        arguments = [
            "train",
            "lower",
            "--data",
            str(folder),
            "--out",
            str(run),
            "--smoke",
            "--quiet",
            "--device",
            "cpu",
        ]
        assert main([*arguments, "--set", "data.split_seed=7"]) == 0
        return folder, run

    def test_is_the_split_of_the_run(self, unsplit, tmp_path):
        folder, run = unsplit
        kept = read_run(run).split
        assert kept != make_split(list(read_dataset(folder).cases.values()))  # the split of the default seed
        for model in (run, run / "model"):
            assert split_for(model, read_dataset(folder)) == kept
        out = tmp_path / "scores"
        assert main(["evaluate", str(run), "--data", str(folder), "--out", str(out), "--quiet"]) == 0
        assert set(pd.read_csv(out / "cases.csv").case) == set(kept.test)

    def test_is_never_redrawn_for_a_model_without_its_run(self, unsplit, tmp_path, capsys):
        folder, run = unsplit
        shutil.copytree(run / "model", tmp_path / "alone")
        arguments = [
            "evaluate",
            str(tmp_path / "alone"),
            "--data",
            str(folder),
            "--out",
            str(tmp_path / "scores"),
            "--quiet",
        ]
        out = tmp_path / "scores"
        assert main(arguments) == 2
        assert "nothing tells which cases" in capsys.readouterr().err and not out.exists()
        (tmp_path / "own.json").write_text(json.dumps({"train": ["A"], "val": [], "test": ["B"]}))
        assert main([*arguments, "--split-file", str(tmp_path / "own.json")]) == 0
        assert set(pd.read_csv(out / "cases.csv").case) == {"B"}

    def test_is_that_of_the_dataset_if_the_run_has_none_of_its_cases(self, unsplit, data, tmp_path):
        _, run = unsplit
        dataset = read_dataset(data)
        other = Dataset(tmp_path / "other", dataset.task, {f"{name}2": case for name, case in dataset.cases.items()})
        with pytest.raises(InputError, match="nothing tells which cases"):
            split_for(run, other)
        other.folder.mkdir()
        (other.folder / "split.json").write_text(json.dumps({"train": ["A2"], "val": [], "test": ["C2"]}))
        assert split_for(run, other).test == ("C2",)

    def test_is_refused_if_some_of_its_cases_are_missing(self, unsplit):
        folder, run = unsplit
        shutil.rmtree(folder / "C")
        with pytest.raises(InputError, match="lacks 1 of the 10 cases of the run's split, e.g. 'C'"):
            split_for(run, read_dataset(folder))


def test_published_model_contains_its_card_and_scores(whole, data, tmp_path):
    scores, card = tmp_path / "scores", REPOSITORY / "DanteTrainer" / "Resources" / "Cards" / "brats-without-t1ce.toml"
    assert main(["evaluate", str(whole), "--data", str(data), "--split", "test", "--out", str(scores), "--quiet"]) == 0
    publish = ["publish", str(whole), "--card", str(card), "--scores", str(scores), "--to"]
    assert main([*publish, str(tmp_path / "model")]) == 0
    spec = read_spec(tmp_path / "model")
    assert spec.name == "BraTS without T1ce" and spec.citations and "test split, 1 cases" in next(iter(spec.scores))
    assert sha256_of(tmp_path / "model" / "limited.safetensors") == weights(whole)
    text = (tmp_path / "model" / "README.md").read_text()
    calibration = spec.limited.calibration["WT"]
    assert calibration.cases == 1 and 0.5 < calibration.confidence <= 1 and 0 <= calibration.precision <= 1
    assert "How sure, how right" in text
    assert "CC BY 4.0" in text and "not for diagnosis" in text and "WT Dice" in text
    assert main([*publish, str(data)]) == 2  # somebody's data is not overwritten


def test_weights_published_at_half_size_segment_as_before(whole, data, tmp_path):
    from DanteSegmenterLib.cases.case_folder import read_case_folder
    from DanteSegmenterLib.inference import load_model, segment

    card = REPOSITORY / "DanteTrainer" / "Resources" / "Cards" / "brats-without-t1ce.toml"
    arguments = ["publish", str(whole), "--card", str(card), "--to", str(tmp_path / "half"), "--half"]
    assert main(arguments) == 0
    sizes = [(folder / "limited.safetensors").stat().st_size for folder in (tmp_path / "half", whole / "model")]
    assert sizes[0] < 0.6 * sizes[1]
    volumes = read_case_folder(data / "A").read_images()
    limited = {name: volumes[name] for name in ("t1", "t2", "flair")}
    models = [load_model(folder, "cpu") for folder in (tmp_path / "half", whole / "model")]
    half, full = (segment(model, limited, probabilities=True) for model in models)
    assert abs(half.probabilities - full.probabilities).max() < 0.02


def test_list_names_methods_and_experiments(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert "lower" in text and "brats-2mm" in text


def test_longer_run_learns_to_find_the_tumour(data, tmp_path):
    """The loss could fall for many reasons, but not raise the Dice of an unseen case."""
    run = tmp_path / "run"
    overrides = ["steps=60", "validate_every=60", "learning_rate=0.05", "momentum=0.9"]
    from dataclasses import replace

    experiment = load_experiment("brats-2mm", overrides, method="lower")
    small = smoke(experiment)
    start_run(replace(small, run=replace(small.run, steps=60, validate_every=60)), data, run)
    continue_run(run, "cpu", quiet=True)
    last = dict(
        zip(*(line.split(",") for line in (Path(run / "log.csv").read_text().splitlines()[i] for i in (0, -1))))
    )
    assert float(last["dice_WT"]) > 0.6, last
    assert torch.isfinite(torch.tensor(float(last["loss"])))


def test_training_seconds_are_summed_over_steps():
    rows = [
        {"stage": "stage-1", "step": 10, "seconds_per_step": 1.0},
        {"stage": "stage-1", "step": 20, "seconds_per_step": 2.0},
        {"stage": "stage-2", "step": 5, "seconds_per_step": 3.0},
    ]
    assert seconds_trained(rows) == 10 + 20 + 15


def test_calibration_by_hand():
    # Two cases: confidence (0.9, 0.7) above precision (0.5, 0.3); the truth, 10 mL, is inside one of the two ranges.
    rows = pd.DataFrame(
        {
            "confidence": [0.9, 0.7],
            "precision": [0.5, 0.3],
            "truth_ml": [10.0, 10.0],
            "volume_low_ml": [8.0, 11.0],
            "volume_high_ml": [12.0, 15.0],
        }
    )
    assert calibration_of(rows) == Calibration(2, 0.8, 0.4, 0.5)
    assert calibration_of(rows.assign(precision=float("nan"))) is None
