import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from filelock import FileLock

from DanteSegmenterLib.errors import Cancelled, ConfigError, DanteError, InputError
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.locks import holding
from DanteTrainerLib.loop import trainer as loop
from DanteTrainerLib.run import start, train
from DanteTrainerLib.run.run_folder import cache_of, read_run
from DanteTrainerLib.study.plan import plan
from DanteTrainerLib.study.reporting.report import collect, write_report
from DanteTrainerLib.study.run import run_study
from DanteTrainerLib.study.study_file import Entry, Study

SMALL = (
    "run.steps=2",
    "run.pretrain_steps=1",
    "run.validate_every=0",
    "data.patch=[16,16,16]",
    "data.spacing_mm=[8.0,8.0,8.0]",
    "data.workers=0",
    "network.features=[2,4]",
    "network.strides=[[1,1,1],[2,2,2]]",
    "network.kernels=[[3,3,3],[3,3,3]]",
)


def small_study(*entries, **values):
    return Study("brats-2mm", SMALL, entry=entries, **values)


def test_study_trains_scores_and_tabulates_all_rows_and_is_finished_when_rerun(data, tmp_path, capsys):
    study = small_study(
        Entry("lower", "lower", seeds=(1, 2)),
        Entry("upper", "upper"),
        Entry("MMANet", "mmanet", ("distillation.teacher={upper}",)),
        Entry("DANTE", "dante"),
    )
    run_study(study, data, tmp_path, "test", "cpu", quiet=True)
    text = write_report(study, plan(study, tmp_path), "test", tmp_path)
    scores = pd.read_csv(tmp_path / "results.csv")
    values = ["dice", "hd95_mm", "brats_dice", "brats_hd95_mm", "lesion_dice", "lesion_hd95_mm", "truth_ml"]
    assert list(scores.columns) == ["method", "seed", "case", "region", *values]
    assert scores[values].drop(columns=["dice", "hd95_mm"]).notna().all(axis=None)
    assert list(dict.fromkeys(scores.method)) == ["lower", "upper", "MMANet", "DANTE", "DANTE (all modalities)"]
    assert sorted(scores[scores.method == "lower"].seed.unique()) == [1, 2]
    assert "Scored on the split 'test', without mirroring." in text
    assert "| lower | supervised | 2 | 2 |" in text
    assert "| DANTE | stage-1 | 1 | 1 |" in text and "| DANTE | stage-2 | 1 | 2 |" in text
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint.pt")}
    capsys.readouterr()
    run_study(study, data, tmp_path, "test", "cpu", quiet=True)
    assert capsys.readouterr().out == ""
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint.pt")}


def test_study_can_score_with_mirroring_in_addition(data, tmp_path):
    study = small_study(Entry("lower", "lower"))
    for mirror in (False, True):
        study = replace(study, mirror=mirror)
        run_study(study, data, tmp_path, "val", "cpu", quiet=True)
    plain, mirrored = (collect(plan(study, tmp_path), "val", mirror) for mirror in (False, True))
    assert len(plain) == len(mirrored) == 3
    assert "averaged over the eight mirrorings" in write_report(study, plan(study, tmp_path), "val", tmp_path)
    assert sorted(p.name for p in (tmp_path / "runs" / "lower-seed1").glob("evaluation-*")) == [
        "evaluation-val",
        "evaluation-val-mirror",
    ]


def test_methods_of_one_seed_see_the_same_batches_after_any_earlier_stage(data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(loop.Trainer, "train", lambda self, stage, source, *_: seen.append((stage.name, source)))
    monkeypatch.setattr(train, "save_checkpoint", lambda *_: None)
    monkeypatch.setattr(train, "write_model", lambda *_: None)
    monkeypatch.setattr(train, "carry", lambda *_: None)
    for run in plan(small_study(Entry("lower", "lower"), Entry("DANTE", "dante")), tmp_path):
        start.start_run(run.experiment, data, run.folder, cache=tmp_path / "cache")
        train.continue_run(run.folder, "cpu", quiet=True)
    batches = {name: source.batch(3) for name, source in seen}
    assert torch.equal(batches["supervised"].images, batches["stage-2"].images)
    assert torch.equal(batches["supervised"].regions, batches["stage-2"].regions)
    assert not torch.equal(batches["stage-1"].images, batches["stage-2"].images)


def test_run_locked_by_another_process_is_left_to_it(data, tmp_path, monkeypatch):
    study = small_study(Entry("lower", "lower"), Entry("upper", "upper"))
    first, second = plan(study, tmp_path)
    first.folder.parent.mkdir(parents=True)
    lock = FileLock(first.folder.with_name(f".{first.folder.name}.lock"))
    lock.acquire()
    waits = []

    def other_process_ends(seconds):
        waits.append(second.model.is_dir() and not first.folder.exists())
        lock.release()

    monkeypatch.setattr("DanteTrainerLib.study.run.time.sleep", other_process_ends)
    run_study(study, data, tmp_path, "test", "cpu", quiet=True)
    assert waits == [True] and first.model.is_dir()


def test_changed_settings_of_a_trained_run_are_refused(data, tmp_path):
    run_study(small_study(Entry("lower", "lower")), data, tmp_path, "test", "cpu", quiet=True)
    other = small_study(Entry("lower", "lower", ("optimiser.learning_rate=0.1",)))
    run = plan(other, tmp_path)[0]
    (run.folder / "evaluation-test" / "cases.csv").unlink()
    with pytest.raises(ConfigError, match="trained with other settings"):
        run_study(other, data, tmp_path, "test", "cpu", quiet=True)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A trained and scored study of DANTE, whose models have two networks."""
    folder = tmp_path_factory.mktemp("finished")
    run_study(TWO_DOORS, data, folder, "test", "cpu", quiet=True)
    return folder


TWO_DOORS = Study("brats-2mm", SMALL, entry=(Entry("DANTE", "dante"),))
FULL, LIMITED = "evaluation-test-full", "evaluation-test"


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def without_a_region(path):
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def of_other_weights(path):
    summary = path.with_name("summary.json")
    summary.write_text(re.sub(r'"weights": "..', '"weights": "00', summary.read_text()))


def without_summary(path):
    path.with_name("summary.json").unlink()


@pytest.mark.parametrize("pathway", [FULL, LIMITED])
@pytest.mark.parametrize("damage", [Path.unlink, cut, without_a_region, of_other_weights, without_summary])
def test_missing_or_incomplete_scores_of_a_network_are_recomputed(finished, data, pathway, damage):
    run = plan(TWO_DOORS, finished)[0].folder
    right = {name: (run / name / "cases.csv").read_bytes() for name in (FULL, LIMITED)}
    other = run / (LIMITED if pathway == FULL else FULL) / "cases.csv"
    stamp = other.stat().st_mtime_ns
    damage(run / pathway / "cases.csv")
    run_study(TWO_DOORS, data, finished, "test", "cpu", quiet=True)
    assert {name: (run / name / "cases.csv").read_bytes() for name in (FULL, LIMITED)} == right
    assert other.stat().st_mtime_ns == stamp


def test_failed_row_is_reported_and_the_others_continue(data, tmp_path, capsys):
    study = small_study(
        Entry("broken", "lower", ("learning_rate=1e38", "clip_norm=1e38", "weight_decay=1e5")),
        Entry("pupil", "mmanet", ("distillation.teacher={broken}",)),
        Entry("lower", "lower"),
    )
    with pytest.raises(DanteError, match="not finite"):
        run_study(study, data, tmp_path, "test", "cpu", quiet=True)
    assert "error: 'broken', seed 1: step" in capsys.readouterr().err
    assert set(collect(plan(study, tmp_path), "test").method) == {"lower"}


@pytest.mark.parametrize("part", ["tset", "TEST"])
def test_invalid_part_is_refused_before_training(data, tmp_path, part):
    with pytest.raises(InputError, match="unknown split"):
        run_study(small_study(Entry("lower", "lower")), data, tmp_path, part, "cpu", quiet=True)
    assert not (tmp_path / "runs").exists()


def test_stopped_study_starts_no_further_run_and_continues_when_rerun(data, tmp_path):
    study = small_study(Entry("lower", "lower"), Entry("upper", "upper"))
    first, second = plan(study, tmp_path)
    with pytest.raises(Cancelled, match="run the study again"):
        run_study(study, data, tmp_path, "test", "cpu", quiet=True, stop=first.model.is_dir)
    assert first.model.is_dir() and not second.folder.exists()
    run_study(study, data, tmp_path, "test", "cpu", quiet=True)
    assert set(collect(plan(study, tmp_path), "test").method) == {"lower", "upper"}


def test_moved_study_keeps_its_prepared_cases_and_clean_removes_them(data, tmp_path, capsys):
    study = small_study(Entry("lower", "lower"))
    run_study(study, data, tmp_path / "here", "test", "cpu", quiet=True)
    (tmp_path / "here").rename(tmp_path / "there")
    run = plan(study, tmp_path / "there")[0].folder
    assert cache_of(run, read_run(run)).resolve() == tmp_path / "there" / "cache"
    (tmp_path / "there" / "cache" / "thesis.txt").write_text("two years of work")
    assert main(["clean", str(run)]) == 0 and "may serve other runs" in capsys.readouterr().out
    assert list((tmp_path / "there").rglob("images.npy"))
    assert main(["clean", str(tmp_path / "there")]) == 0 and "removed 4 prepared cases" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "there" / "cache").iterdir()] == ["thesis.txt"]
    assert main(["clean", str(data)]) == 2 and (data / "A").is_dir()


def test_moved_study_finds_the_teachers_of_its_rows(data, tmp_path, capsys):
    study = small_study(Entry("upper", "upper"), Entry("pupil", "pmkl", ("distillation.teacher={upper}",)))
    pupil = plan(study, tmp_path / "a")[1]
    with pytest.raises(Cancelled):
        run_study(study, data, tmp_path / "a", "test", "cpu", quiet=True, stop=(pupil.folder / "run.json").is_file)
    (tmp_path / "a").rename(tmp_path / "b")
    run_study(study, data, tmp_path / "b", "test", "cpu", quiet=True)  # trains the rest
    upper, pupil = plan(study, tmp_path / "b")
    assert pupil.model.is_dir() and read_run(pupil.folder).experiment.distillation.teacher == str(upper.model.resolve())
    (tmp_path / "b").rename(tmp_path / "c")
    capsys.readouterr()
    run_study(study, data, tmp_path / "c", "test", "cpu", quiet=True)
    assert capsys.readouterr().out == ""


def test_prepared_cases_of_a_running_study_are_not_removed(data, tmp_path, capsys):
    study = small_study(Entry("lower", "lower"))
    run_study(study, data, tmp_path, "test", "cpu", quiet=True)
    before = sorted(tmp_path.glob("cache/*"))
    with holding(plan(study, tmp_path)[0].folder):
        assert main(["clean", str(tmp_path)]) == 2
    assert "another process works on the run" in capsys.readouterr().err
    assert before and sorted(tmp_path.glob("cache/*")) == before
