import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from datasets import write_dataset
from filelock import FileLock

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.errors import Cancelled, ConfigError, DanteError, InputError
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.data.dataset import Dataset, read_split
from DanteTrainerLib.loop import trainer as loop
from DanteTrainerLib.run import start, train
from DanteTrainerLib.run.run_folder import cache_of, read_run
from DanteTrainerLib.settings.experiment import list_studies
from DanteTrainerLib.settings.tasks import TASKS
from DanteTrainerLib.study.report import collect, gap_table, score_table, write_report
from DanteTrainerLib.study.run import Entry, Study, Sweep, plan, read_study, run_study

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


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"))


def test_a_study_trains_scores_and_tables_all_rows_and_is_done_when_run_again(data, tmp_path, capsys):
    study = small_study(
        Entry("lower", "lower", seeds=(1, 2)),
        Entry("upper", "upper"),
        Entry("MMANet", "mmanet", ("distillation.teacher={upper}",)),
        Entry("DANTE", "dante"),
    )
    run_study(study, data, tmp_path, "test", "cpu", quiet=True)
    text = write_report(study, plan(study, tmp_path), "test", tmp_path)
    scores = pd.read_csv(tmp_path / "results.csv")
    assert list(scores.columns) == ["method", "seed", "case", "region", "dice", "hd95_mm"]
    assert list(dict.fromkeys(scores.method)) == ["lower", "upper", "MMANet", "DANTE", "DANTE (all modalities)"]
    assert sorted(scores[scores.method == "lower"].seed.unique()) == [1, 2]
    assert "Scored on the split 'test', without mirroring." in text
    assert "| DANTE-seed1 | stage-1 | 1 |" in text and "| DANTE-seed1 | stage-2 | 2 |" in text
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint.pt")}
    capsys.readouterr()
    run_study(study, data, tmp_path, "test", "cpu", quiet=True)
    assert capsys.readouterr().out == ""
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint.pt")}


def test_a_study_may_score_with_mirroring_beside_the_scores_without(data, tmp_path):
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


def test_methods_of_one_seed_see_the_same_batches_whatever_stage_went_before(data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(loop.Trainer, "train", lambda self, stage, source, *_: seen.append((stage.name, source)))
    monkeypatch.setattr(train, "save_checkpoint", lambda *_: None)
    monkeypatch.setattr(train, "write_model", lambda *_: None)
    monkeypatch.setattr(train, "_carry", lambda *_: None)
    for run in plan(small_study(Entry("lower", "lower"), Entry("DANTE", "dante")), tmp_path):
        start.start_run(run.experiment, data, run.folder, cache=tmp_path / "cache")
        train.continue_run(run.folder, "cpu", quiet=True)
    batches = {name: source.batch(3) for name, source in seen}
    assert torch.equal(batches["supervised"].images, batches["stage-2"].images)
    assert torch.equal(batches["supervised"].regions, batches["stage-2"].regions)
    assert not torch.equal(batches["stage-1"].images, batches["stage-2"].images)


def test_a_run_that_another_process_works_on_is_left_to_it(data, tmp_path, monkeypatch):
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


def test_other_settings_than_those_trained_are_refused(data, tmp_path):
    run_study(small_study(Entry("lower", "lower")), data, tmp_path, "test", "cpu", quiet=True)
    other = small_study(Entry("lower", "lower", ("optimiser.learning_rate=0.1",)))
    run = plan(other, tmp_path)[0]
    (run.folder / "evaluation-test" / "cases.csv").unlink()
    with pytest.raises(ConfigError, match="trained with other settings"):
        run_study(other, data, tmp_path, "test", "cpu", quiet=True)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A study of DANTE, whose models have two networks, trained and scored."""
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
def test_scores_that_are_missing_or_not_whole_are_made_again_for_every_network(finished, data, pathway, damage):
    run = plan(TWO_DOORS, finished)[0].folder
    right = {name: (run / name / "cases.csv").read_bytes() for name in (FULL, LIMITED)}
    other = run / (LIMITED if pathway == FULL else FULL) / "cases.csv"
    stamp = other.stat().st_mtime_ns
    damage(run / pathway / "cases.csv")
    run_study(TWO_DOORS, data, finished, "test", "cpu", quiet=True)
    assert {name: (run / name / "cases.csv").read_bytes() for name in (FULL, LIMITED)} == right
    assert other.stat().st_mtime_ns == stamp


def test_a_row_that_fails_is_told_and_the_others_go_on(data, tmp_path, capsys):
    study = small_study(
        Entry("broken", "lower", ("learning_rate=1e38", "clip_norm=1e38", "weight_decay=1e5")),
        Entry("pupil", "mmanet", ("distillation.teacher={broken}",)),
        Entry("lower", "lower"),
    )
    with pytest.raises(DanteError, match="not finite"):
        run_study(study, data, tmp_path, "test", "cpu", quiet=True)
    assert "error: 'broken', seed 1: step" in capsys.readouterr().err
    assert set(collect(plan(study, tmp_path), "test").method) == {"lower"}


def test_rows_that_would_share_a_folder_are_refused(tmp_path):
    rows = "".join(f'[[entry]]\nname = "{name}"\nmethod = "lower"\n' for name in ("my row", "my_row"))
    (tmp_path / "study.toml").write_text('experiment = "brats-2mm"\n' + rows)
    with pytest.raises(ConfigError, match="trained in one folder"):
        read_study(tmp_path / "study.toml")


@pytest.mark.parametrize("part", ["tset", "TEST"])
def test_a_part_that_is_none_is_refused_before_anything_is_trained(data, tmp_path, part):
    with pytest.raises(InputError, match="unknown split"):
        run_study(small_study(Entry("lower", "lower")), data, tmp_path, part, "cpu", quiet=True)
    assert not (tmp_path / "runs").exists()


def test_a_study_that_was_asked_to_stop_begins_no_further_run_and_goes_on_when_run_again(data, tmp_path):
    study = small_study(Entry("lower", "lower"), Entry("upper", "upper"))
    first, second = plan(study, tmp_path)
    with pytest.raises(Cancelled, match="run the study again"):
        run_study(study, data, tmp_path, "test", "cpu", quiet=True, stop=first.model.is_dir)
    assert first.model.is_dir() and not second.folder.exists()
    run_study(study, data, tmp_path, "test", "cpu", quiet=True)
    assert set(collect(plan(study, tmp_path), "test").method) == {"lower", "upper"}


def test_a_study_that_is_moved_takes_its_prepared_cases_along_and_clean_removes_them(data, tmp_path, capsys):
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


def scores_of(**dice_by_method):
    rows = [
        {"method": name, "seed": 1, "case": f"c{n}", "region": "ET", "dice": dice, "hd95_mm": 5.0}
        for name, dices in dice_by_method.items()
        for n, dice in enumerate(dices)
    ]
    return pd.DataFrame(rows)


def test_the_share_of_the_gap_is_of_means_over_the_same_cases():
    scores = scores_of(lower=[0.2, 0.4], upper=[0.6, 0.8], mine=[0.3, 0.5])
    table = gap_table(scores, small_study(Entry("lower", "lower"), region="ET"))
    assert "| mine | 1 | +0.100 (+0.100 to +0.100) |" in table and table.rstrip().endswith("25% |")
    assert "| lower | 1 | 0.300 (0.200-0.400; 2) | 5.0 (5.0-5.0; 2) |" in score_table(scores)


def test_the_share_of_the_gap_belongs_to_the_difference_in_its_row_also_where_the_ceiling_has_fewer_seeds():
    scores = scores_of(lower=[0.2, 0.4], upper=[0.6, 0.8], mine=[0.4, 0.6])
    second = scores_of(lower=[0.2, 0.4], mine=[0.2, 0.4]).assign(seed=2)
    table = gap_table(pd.concat([scores, second]), small_study(Entry("lower", "lower"), region="ET"))
    # +0.2 with one seed and 0 with the other, of a gap of 0.4.
    assert "| mine | 2 | +0.100 (+0.100 to +0.100) |" in table and table.rstrip().endswith("25% |")


def test_sweeps_become_rows_and_a_picture(tmp_path):
    sweep = Sweep("dante", "dante.align_weight", (0, 0.5))
    study = small_study(sweep=(sweep,))
    names = [run.entry.name for run in plan(study, tmp_path)]
    assert names == ["dante align_weight=0", "dante align_weight=0.5"]
    assert [run.experiment.dante.align_weight for run in plan(study, tmp_path)] == [0, 0.5]
    assert collect(plan(study, tmp_path), "val").empty
    for n, run in enumerate(plan(study, tmp_path)):
        folder = run.folder / "evaluation-val"
        folder.mkdir(parents=True)
        scores_of(x=[0.1 * n]).to_csv(folder / "cases.csv")
    write_report(study, plan(study, tmp_path), "val", tmp_path)
    assert (tmp_path / "sweep.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("experiment = ", "not valid TOML"),
        ('experiment = "brats-2mm"', "nothing to train"),
        ('experiment = "brats-2mm"\nseedz = [1]', "seedz"),
        ('experiment = "brats-2mm"\n[[entry]]\nname = "../x"\nmethod = "lower"', "cannot name a row"),
        ('experiment = "brats-2mm"\n' + '[[entry]]\nname = "x"\nmethod = "lower"\n' * 2, "two rows"),
    ],
)
def test_a_bad_study_file_is_refused(tmp_path, text, reason):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        read_study(path)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Entry("x", "lowest"), "lowest"),
        (Entry("x", "lower", ("run.stepz=1",)), "stepz"),
        (Entry("x", "mmanet", ("distillation.teacher={upper}",)), "names no row"),
    ],
)
def test_a_bad_row_is_refused_before_anything_runs(tmp_path, entry, reason):
    with pytest.raises(ConfigError, match=reason):
        plan(small_study(entry), tmp_path)


@pytest.mark.parametrize("name", sorted(list_studies()))
def test_shipped_studies_can_be_planned(name, tmp_path, capsys):
    study = read_study(list_studies()[name])
    assert len(plan(study, tmp_path)) >= len(study.entries()) > 2
    assert main(["study", name, "--data", "nowhere", "--out", str(tmp_path), "--report"]) == 0
    assert "nothing is scored yet" in capsys.readouterr().out


def test_the_chest_study_brings_the_split_of_its_80_generated_patients(tmp_path):
    patients = {f"SyntheticChest{n:03d}": Case(f"SyntheticChest{n:03d}", {}, None, {}) for n in range(80)}
    path = list_studies()["chest-synthetic"].with_name("chest-synthetic.split.json")
    split = read_split(Dataset(tmp_path, TASKS["chest"], patients), path)
    assert [len(split.part(name)) for name in ("train", "val", "test")] == [28, 16, 36]
