"""Columns of cost and depth, from hand-written files and from a tiny study."""

import json

import pandas as pd
import pytest

from DanteTrainerLib.study.measure import is_measured, measure
from DanteTrainerLib.study.plan import plan
from DanteTrainerLib.study.reporting.measured import deployed_costs, training_costs, use_of_levels
from DanteTrainerLib.study.reporting.tables import Findings
from DanteTrainerLib.study.study_file import Entry, Study

SCORES = pd.DataFrame(
    [("lower", 1, "A", "ET", 0.5, 1.0)], columns=["method", "seed", "case", "region", "dice", "hd95_mm"]
)


@pytest.fixture
def found(tmp_path):
    study = Study("brats-2mm", seeds=(1, 2), entry=(Entry("lower", "lower"), Entry("DANTE", "dante")), region="ET")
    runs = plan(study, tmp_path)
    for run in runs:
        run.folder.mkdir(parents=True)
    return Findings(study, runs, "test", SCORES)


def test_training_costs_are_means_over_seeds_with_the_maximum_memory(found):
    for run, seconds, memory in ((found.runs[0], 0.5, 900), (found.runs[1], 1.5, 1100)):
        log = "stage,step,seconds_per_step,peak_memory_mb,log_without_privileged_share\n"
        log += f"supervised,20,{seconds},{memory - 50},0.5\nsupervised,60,{seconds},{memory},0.25\n"
        (run.folder / "log.csv").write_text(log)
    assert training_costs(found).splitlines()[2:] == ["| lower | supervised | 2 | 60 | 20 | 1.00 | 1.0 | 1100 |"]


def test_inference_costs_are_those_measured(found):
    cost = {"parameters": 1_500_000, "multiply_adds": 3_900_000_000, "patch": [64, 64, 64], "seconds": 0.714}
    cost |= {"memory_bytes": 132_000_000, "cases": 3, "device": "cpu (float32)"}
    (found.runs[1].folder / "cost.json").write_text(json.dumps(cost))
    (found.runs[2].folder / "cost.json").write_text("{")  # damaged: treated as missing
    assert deployed_costs(found).splitlines()[2:] == ["| lower | 1.50 | 3.9 | 132 | 0.71 | cpu (float32) |"]


def test_levels_run_from_none_replaced_to_all_but_the_finest(found):
    def levels(run, *dice):
        folder = run.folder / "levels-test"
        folder.mkdir()
        rows = [(kept, "A", "ET", d, 1.0) for kept, d in zip((3, 2, 1), dice)]
        table = pd.DataFrame(rows, columns=["levels_kept", "case", "region", "dice", "hd95_mm"])
        table.to_csv(folder / "levels.csv", index=False)

    levels(found.runs[0], 0.5, 0.4, 0.1)
    levels(found.runs[1], 0.7, 0.6, 0.1)
    levels(found.runs[2])  # an architecture without levels
    assert use_of_levels(found).splitlines()[0] == (
        "| ET Dice with means in place of | none | levels >= 3 | levels >= 2 |"
    )
    assert use_of_levels(found).splitlines()[2:] == ["| lower | 0.600 | 0.500 | 0.100 |"]


def test_measurements_are_not_repeated(data, tmp_path):
    from small_trainings import small, train

    from DanteTrainerLib.data.dataset import read_dataset

    study = Study("brats-2mm", entry=(Entry("lower", "lower"),))
    [run] = plan(study, tmp_path)
    train(data, run.folder, small("lower"))
    assert not is_measured(run, "test", levels=True)
    measure(run, read_dataset(data), ["A"], "test", True, "cpu")
    assert is_measured(run, "test", levels=True)
    cost = json.loads((run.folder / "cost.json").read_text())
    assert cost["parameters"] > 1000 and cost["cases"] == 1
    levels = pd.read_csv(run.folder / "levels-test" / "levels.csv")
    assert sorted(set(levels.levels_kept)) == [1, 2, 3] and set(levels.case) == {"A"}
    before = (run.folder / "cost.json").stat().st_mtime_ns
    measure(run, read_dataset(data), ["A"], "test", True, "cpu")
    assert (run.folder / "cost.json").stat().st_mtime_ns == before
