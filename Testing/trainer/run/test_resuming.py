"""Resuming a run after the dataset was moved or changed, or with changed settings."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from datasets import write_case, write_dataset

from DanteSegmenterLib.errors import Cancelled, ConfigError, InputError
from DanteSegmenterLib.model_folder import Normalisation, sha256_of
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.data.dataset import Split
from DanteTrainerLib.loop import optimiser
from DanteTrainerLib.run.run_folder import Run, cache_of, read_run, write_run
from DanteTrainerLib.run.start import start_run
from DanteTrainerLib.run.train import continue_run
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.smoke import smoke
from DanteTrainerLib.settings.tasks import BRAIN, CHEST
from DanteTrainerLib.status import read_status


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "data")


@pytest.fixture
def stopped(data, tmp_path):
    """A run stopped after its fifth step, with all cases prepared."""
    run = tmp_path / "run"
    start_run(smoke(load_experiment("brats-2mm", method="lower")), data, run)
    asked = iter([False] * 4 + [True])
    with pytest.raises(Cancelled):
        continue_run(run, "cpu", quiet=True, stop=lambda: next(asked))
    return run


def resume(run, *more):
    return main(["resume", str(run), "--quiet", "--device", "cpu", *map(str, more)])


def test_moved_dataset_is_named_and_its_prepared_cases_reused(stopped, data, tmp_path, capsys, monkeypatch):
    moved = data.rename(tmp_path / "elsewhere")
    assert resume(stopped) == 2
    assert "resume RUN --data FOLDER" in capsys.readouterr().err
    prepared = []
    monkeypatch.setattr("DanteTrainerLib.data.cache._prepare_case", prepared.append)
    assert resume(stopped, "--data", moved) == 0 and not prepared
    assert read_run(stopped).data == str(moved)  # also for the next resume


def test_folder_without_the_cases_of_the_run_is_refused_and_the_run_unchanged(stopped, tmp_path, capsys):
    other = write_dataset(tmp_path / "other", cases=3)
    before = (stopped / "run.json").read_text()
    for folder in (other, tmp_path / "nowhere"):
        assert resume(stopped, "--data", folder) == 2
        assert (stopped / "run.json").read_text() == before
    assert "lacks 1 case ('D')" in capsys.readouterr().err


def test_changeable_settings_apply_from_the_resume_on(stopped, capsys):
    assert resume(stopped, "--set", "network.convs_per_stage=2") == 2
    assert "cannot change within a run" in capsys.readouterr().err
    assert resume(stopped, "--set", "learning_rate=0.001", "--set", "run.steps=8") == 0
    assert read_run(stopped).experiment.run.steps == 8
    log = pd.read_csv(stopped / "log.csv")
    assert log.step.tolist() == [5, 8] and log.learning_rate[1] < 0.001 < log.learning_rate[0]


def test_steps_lowered_below_those_done_end_the_run(stopped):
    assert resume(stopped, "--set", "run.steps=3") == 0
    assert read_status(stopped).state == "finished" and (stopped / "model" / "model.json").is_file()


def test_relative_folders_in_settings_are_the_same_from_any_working_directory(data, tmp_path, monkeypatch):
    write_dataset(tmp_path / "more", cases=3)
    monkeypatch.chdir(tmp_path)
    words = ["pretrain_folders=['more']", "distillation.teacher=upper/model"]
    start_run(smoke(load_experiment("brats-2mm", words, method="dante")), data, tmp_path / "run")
    monkeypatch.chdir(data)
    experiment = read_run(tmp_path / "run").experiment
    assert experiment.data.pretrain_folders == (str(tmp_path.resolve() / "more"),) and not experiment.begin_with
    assert experiment.distillation.teacher == str(tmp_path.resolve() / "upper" / "model")
    asked = iter([True])
    with pytest.raises(Cancelled):
        continue_run(tmp_path / "run", "cpu", quiet=True, stop=lambda: next(asked))


def test_moved_run_folder_keeps_its_cache(stopped, tmp_path):
    moved = stopped.rename(tmp_path / "moved")
    assert cache_of(moved, read_run(moved)).is_dir() and resume(moved) == 0
    assert not stopped.exists()


@pytest.mark.parametrize("lost", ["A", "D"])
def test_run_with_a_missing_case_does_not_resume(stopped, data, capsys, lost):
    shutil.rmtree(data / lost)
    assert resume(stopped) == 2
    assert f"lacks 1 case ('{lost}')" in capsys.readouterr().err
    assert read_status(stopped).state == "failed"


@pytest.mark.parametrize("file", ["A_seg.nii.gz", "A_t1ce.nii.gz"])
def test_run_with_a_missing_file_of_a_training_case_does_not_resume(stopped, data, capsys, file):
    (data / "A" / file).unlink()
    assert resume(stopped) == 2
    assert "'A' has no" in capsys.readouterr().err


def test_other_changes_of_the_dataset_are_reported(stopped, data, capsys):
    shutil.rmtree(data / "E")  # the test case
    write_case(data / "Z", 9)
    shutil.rmtree(data / "B")
    write_case(data / "B", 7)
    assert resume(stopped) == 0
    output = capsys.readouterr().out
    assert "1 case ('B') changed since the start" in output
    assert "1 case ('E') went" in output and "1 case ('Z') came" in output


def test_unchanged_dataset_is_not_mentioned(stopped, capsys):
    assert resume(stopped) == 0
    assert "note" not in capsys.readouterr().out


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "nonsense", '{"experiment": {"seed": -1}}'])
def test_invalid_run_json_is_one_sentence(stopped, capsys, text):
    (stopped / "run.json").write_text(text)
    assert resume(stopped) == 2
    error = capsys.readouterr().err
    assert "run.json" in error and error.count("\n") == 1


def test_run_of_an_older_version_resumes(stopped):
    plain = json.loads((stopped / "run.json").read_text())
    del plain["id"], plain["files"], plain["normalisation"]
    plain["cache"] = str(stopped / "cache")
    del plain["experiment"]["mmanet"]
    plain["experiment"]["distillation"] = {"teacher": "", "feature_weight": 2.0, "weak_weight": 0.1}
    (stopped / "run.json").write_text(json.dumps(plain))
    mmanet = read_run(stopped).experiment.mmanet
    assert (mmanet.kd_weight, mmanet.weak_weight) == (2.0, 0.1)
    assert resume(stopped) == 0


def test_run_with_different_normalisation_does_not_resume(stopped, capsys):
    run = read_run(stopped)
    assert run.normalisation == BRAIN.normalisation
    write_run(
        stopped, replace(run, normalisation={**run.normalisation, "t2": Normalisation("ct_window", 0, 80, 40, 9)})
    )
    assert resume(stopped) == 2
    assert "normalised images in another way. Go on with that version" in capsys.readouterr().err


def test_older_ct_run_without_stored_normalisation_is_refused():
    brain, chest = (Run(load_experiment(task=task), "", Split((), (), ()), "", "") for task in ("brain", "chest"))
    brain.check_normalisation()
    with pytest.raises(ConfigError, match="begun by another version"):
        chest.check_normalisation()
    replace(chest, normalisation=dict(CHEST.normalisation)).check_normalisation()


def test_checkpoint_of_another_run_is_refused(stopped, data, tmp_path, capsys):
    write_run(stopped, replace(read_run(stopped), id="another"))
    assert resume(stopped) == 2
    assert "belongs to another run" in capsys.readouterr().err


def test_damaged_prepared_case_is_named_before_the_first_step(stopped, capsys):
    path = next((stopped / "cache").glob("A-*/images.npy"))
    path.write_bytes(path.read_bytes()[:500])
    assert resume(stopped) == 2
    assert str(path.parent) in capsys.readouterr().err
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    assert resume(stopped) == 2
    assert main(["clean", str(stopped)]) == 0 and resume(stopped) == 0


def test_damaged_checkpoint_falls_back_to_the_previous_and_ends_bit_identical(stopped, data, tmp_path):
    whole = tmp_path / "whole"
    start_run(smoke(load_experiment("brats-2mm", method="lower")), data, whole)
    continue_run(whole, "cpu", quiet=True)
    (stopped / "checkpoint.previous.pt").write_bytes((stopped / "checkpoint.pt").read_bytes())
    (stopped / "checkpoint.pt").write_bytes(b"")
    assert resume(stopped) == 0
    assert sha256_of(stopped / "model" / "limited.safetensors") == sha256_of(whole / "model" / "limited.safetensors")


HUGE = ["optimiser.learning_rate=1e38", "optimiser.clip_norm=1e38", "optimiser.weight_decay=1e5"]


def test_diverged_weights_of_the_last_step_are_not_saved(data, tmp_path, capsys):
    run = tmp_path / "exploded"
    experiment = smoke(load_experiment("brats-2mm", HUGE, method="lower"))
    start_run(replace(experiment, run=replace(experiment.run, steps=1)), data, run)
    with pytest.raises(optimiser.TrainingFailed, match="step 1: the weights are not finite any more.*--set optimiser"):
        continue_run(run, "cpu", quiet=True)
    assert not (run / "checkpoint.pt").exists() and not (run / "model").exists()
    # The advice in the message works.
    assert resume(run, "--set", "learning_rate=0.001", "--set", "clip_norm=12", "--set", "weight_decay=0") == 0


def test_failed_preparation_leaves_no_partial_folder(data, tmp_path):
    run = tmp_path / "run"
    start_run(smoke(load_experiment("brats-2mm", method="lower")), data, run)
    (data / "B" / "B_t1.nii.gz").write_bytes(b"cut")
    with pytest.raises(InputError, match="case 'B'"):
        continue_run(run, "cpu", quiet=True)
    assert not list((run / "cache").glob(".*")) and read_status(run).state == "failed"


def test_two_trainings_cannot_start_in_one_folder(data, tmp_path, capsys):
    run = tmp_path / "run"
    base = ["train", "lower", "--data", str(data), "--out", str(run), "--smoke", "--quiet", "--device", "cpu"]
    run.mkdir()
    (run / ".lock").touch()  # of a training that was killed before it wrote anything
    assert main(base) == 0
    assert main(base) == 2
    assert "exists and is not empty; resume it" in capsys.readouterr().err


def test_unwritable_run_folder_leaves_nothing(data, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("DanteTrainerLib.run.start.write_run", full)
    with pytest.raises(OSError, match="No space left"):
        start_run(smoke(load_experiment("brats-2mm", method="lower")), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
