import re
from dataclasses import replace
from pathlib import Path

import pytest

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.errors import ConfigError
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.data.dataset import Dataset, read_split
from DanteTrainerLib.settings.loading import list_studies
from DanteTrainerLib.settings.tasks import TASKS
from DanteTrainerLib.study.plan import plan
from DanteTrainerLib.study.study_file import read_study

PUBLISHED = ("table-1", "table-2", "figure-4", "weights")


def shipped(name):
    return read_study(list_studies()[name])


@pytest.mark.parametrize("name", sorted(list_studies()))
def test_shipped_studies_can_be_planned_at_every_size(name, tmp_path, capsys):
    study = shipped(name)
    for size in study.size or [""]:
        runs = plan(study.sized(size), tmp_path)
        assert len(runs) >= len(study.entries()) > 2
        trained = {run.model for run in runs}
        assert all(need in trained for run in runs for need in run.needs)
    assert main(["study", name, "--data", "nowhere", "--out", str(tmp_path), "--report"]) == 0
    assert "nothing is scored yet" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(list_studies()))
def test_row_is_quoted_only_while_no_method_can_train_it(name, tmp_path):
    """Whoever adds the method or setting removes the line `quoted = true` from the study file."""
    study = shipped(name).sized()
    for entry in study.entry:
        if entry.quoted:
            bounds = tuple(row for row in study.entry if row.name in (study.baseline, study.ceiling))
            with pytest.raises(ConfigError, match="unknown (key|method)"):
                plan(replace(study, entry=(*bounds, replace(entry, quoted=False))), tmp_path)


@pytest.mark.parametrize("name", PUBLISHED)
def test_studies_have_paper_and_smoke_sizes(name, tmp_path):
    study = shipped(name)
    paper, smoke = (plan(study.sized(size), tmp_path)[0].experiment for size in ("paper", "smoke"))
    assert (paper.data.patch, paper.data.spacing_mm) == ((128, 128, 128), (1.0, 1.0, 1.0))
    assert paper.run.steps == paper.run.pretrain_steps == 500 * 250
    assert (smoke.run.steps, smoke.run.pretrain_steps, smoke.data.patch) == (2, 1, (16, 16, 16))
    assert len({run.seed for run in plan(study.sized("smoke"), tmp_path)}) == 1


def test_table_1_has_the_rows_of_the_paper_in_order():
    names = [entry.name for entry in shipped("table-1").entry]
    ours = ["lower", "upper", "RobustSeg", "mmFormer", "ShaSpec", "MMANet", "PMKL", "CMFD", "CPMN", "DANTE"]
    assert names == ours


@pytest.mark.parametrize("name", ["table-1", "table-2"])
def test_share_of_the_gap_in_the_paper_follows_from_its_dice(name):
    rows = {entry.name: entry.paper for entry in shipped(name).entry}
    low, own, high = (rows[row]["BraTS 2018"]["ET"] for row in ("lower", "DANTE", "upper"))
    share = 100 * (own.dice - low.dice) / (high.dice - low.dice)
    assert own.gap_share in (None, round(share)) and round(share) == 31


def test_figure_4_sweeps_each_lambda_with_the_other_at_the_paper_value(tmp_path):
    study = shipped("figure-4")
    runs = [run.experiment.dante for run in plan(study.sized("small"), tmp_path) if run.entry.method == "dante"]
    grid = [0, 0.1, 0.3, 0.5, 0.7, 1]
    assert [(d.compaction_weight, d.align_weight) for d in runs] == [(x, 0.5) for x in grid] + [(0.3, x) for x in grid]
    assert study.split == "val"


def test_weight_grid_multiplies_all_weights_of_a_method(tmp_path):
    runs = {run.entry.name: run.experiment for run in plan(shipped("weights").sized("small"), tmp_path)}
    whole, hundredth = runs["mmanet x1"].mmanet, runs["mmanet x0.01"].mmanet
    assert hundredth.kd_weight == pytest.approx(whole.kd_weight / 100) != 0
    assert hundredth.weak_weight == pytest.approx(whole.weak_weight / 100) != 0
    assert (runs["dante x0"].dante.compaction_weight, runs["dante x0"].dante.align_weight) == (0, 0)


def test_list_of_studies_shows_their_sizes(capsys):
    assert main(["list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["table-2"].endswith("(--size small, smoke, paper)") and "--size" not in lines["ablations"]


def test_list_shows_whole_sentences_in_one_column(capsys):
    assert main(["list"]) == 0
    rows = [line for line in capsys.readouterr().out.partition("studies:")[2].splitlines() if line.startswith("  ")]
    assert [row for row in rows if not row.partition(" (--size")[0].endswith(".")] == []
    studies = rows[: len(list_studies())]
    assert len({re.match(r"  \S+ +", row).end() for row in studies}) == 1


def test_chest_study_includes_the_split_of_its_80_generated_patients(tmp_path):
    patients = {f"SyntheticChest{n:03d}": Case(f"SyntheticChest{n:03d}", {}, None, {}) for n in range(80)}
    path = Path(list_studies()["chest-synthetic"]).with_name("chest-synthetic.split.json")
    split = read_split(Dataset(tmp_path, TASKS["chest"], patients), path)
    assert [len(split.part(name)) for name in ("train", "val", "test")] == [28, 16, 36]


def test_a_study_that_is_not_there_is_answered_with_those_that_are(tmp_path, capsys):
    assert main(["study", "table-3", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "there is no study 'table-3': shipped are ablations, " in error and "table-1, table-2" in error
