import math
import re
from dataclasses import replace

import pandas as pd
import pytest

from DanteTrainerLib.__main__ import main
from DanteTrainerLib.study.plan import plan
from DanteTrainerLib.study.reporting.paper import beside_paper, conditions
from DanteTrainerLib.study.reporting.report import SCORE_COLUMNS, SECTIONS, collect, write_report
from DanteTrainerLib.study.reporting.tables import (
    BRATS_COLUMNS,
    LESION_COLUMNS,
    Findings,
    brats_table,
    gap_table,
    lesion_table,
    of_the_whole,
    p_value,
    score_table,
    selection_tables,
)
from DanteTrainerLib.study.study_file import Entry, Figure, Study, Sweep

STUDY = Study("brats-2mm", entry=(Entry("lower", "lower"), Entry("upper", "upper")), region="ET")


def scores_of(seed=1, **dice_by_method):
    rows = [
        {"method": name, "seed": seed, "case": f"c{n}", "region": "ET", "dice": dice, "hd95_mm": 5.0}
        for name, dices in dice_by_method.items()
        for n, dice in enumerate(dices)
    ]
    return pd.DataFrame(rows)


def found(*scores, study=STUDY, split="test", runs=()):
    return Findings(study, runs, split, pd.concat(scores))


def line_of(table, start):
    return next(line for line in table.splitlines() if line.startswith(f"| {start} |"))


def test_share_of_the_gap_uses_means_over_the_same_cases():
    scores = scores_of(lower=[0.2, 0.4], upper=[0.6, 0.8], mine=[0.3, 0.5])
    table = gap_table(found(scores))
    assert line_of(table, "mine").startswith("| mine | 1 | +0.100 (+0.100 to +0.100) | +0.100 |")
    assert line_of(table, "mine").endswith("| 25% (25% to 25%) |")
    assert "| lower | 1 | 0.300 (0.200-0.400; 2) | 5.0 (5.0-5.0; 2) |" in score_table(found(scores))


def test_share_of_the_gap_uses_the_seeds_of_its_row_even_with_fewer_ceiling_seeds():
    scores = scores_of(lower=[0.2, 0.4], upper=[0.6, 0.8], mine=[0.4, 0.6])
    second = scores_of(seed=2, lower=[0.2, 0.4], mine=[0.2, 0.4])
    line = line_of(gap_table(found(scores, second)), "mine")
    # +0.2 with one seed and 0 with the other, of a gap of 0.4: the interval includes both.
    assert line.startswith("| mine | 2 | +0.100 (+0.000 to +0.200) | +0.200, +0.000 |")
    assert line.endswith("| 25% (0% to 50%) |")


def test_tests_of_several_rows_are_corrected_for_their_number():
    """Six cases that all rise have p = 2/64 = 0.031; the smaller of two p-values is doubled, equal ones both."""
    rising = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    one = gap_table(found(scores_of(lower=[0.0] * 6, upper=rising)))
    assert "Holm" not in one and "| 0.031 |" in one
    two = gap_table(found(scores_of(lower=[0.0] * 6, upper=rising, mine=rising[::-1])))
    assert "| Holm p |" in two and line_of(two, "mine").count("| 0.031 | 0.062 |") == 1


def test_small_p_values_are_not_zero_and_missing_ones_are_a_dash():
    assert (p_value(0.0004), p_value(0.0123), p_value(math.nan)) == ("<0.001", "0.012", "-")


SWEEP = Sweep("dante", "dante.align_weight", (0, 0.5, 1), paper_chose=0.5)


def test_sweep_value_is_chosen_on_validation_cases_only():
    study = replace(STUDY, sweep=(SWEEP,))
    names = [entry.name for _, entry in SWEEP.points()]
    scores = scores_of(lower=[0.2, 0.4], **{names[0]: [0.4, 0.6], names[1]: [0.3, 0.5]})
    table = selection_tables(found(scores, study=study, split="val"))
    assert "| 0.5 | 1 | 0.400 (0.300-0.500; 2) | +0.100 (+0.100 to +0.100) |" in table
    assert table.endswith("Best of 2 of 3 values: **0**; the paper chose 0.5.")
    assert selection_tables(found(scores, study=study)) == ""


def test_every_row_has_the_paper_value_or_a_dash():
    study = replace(
        STUDY,
        entry=(
            Entry("lower", "lower", paper={"BraTS 2018": {"ET": Figure(45.24, 9.23)}}),
            Entry("upper", "upper"),
            Entry("mine", "dante", paper={"BraTS 2018": {"ET": Figure(gap_share=31)}, "DP2E": {"PE": Figure(50)}}),
            Entry("theirs", "future", quoted=True, paper={"BraTS 2018": {"ET": Figure(50.5)}}),
        ),
    )
    table = beside_paper(found(scores_of(lower=[0.2, 0.4], upper=[0.6, 0.8], mine=[0.3, 0.5]), study=study))
    assert table.splitlines()[0] == (
        "| method | ET Dice % here | paper, BraTS 2018 | ET HD95 mm here | paper, BraTS 2018 "
        "| ET share of the gap % here | paper, BraTS 2018 | PE Dice % here | paper, DP2E |"
    )
    assert line_of(table, "lower") == "| lower | 30.0 | 45.24 | 5.0 | 9.23 | 0 | - | - | - |"
    assert line_of(table, "mine") == "| mine | 40.0 | - | 5.0 | - | 25 | 31 | - | 50.00 |"
    assert line_of(table, "theirs") == "| theirs | - | 50.50 | - | - | - | - | - | - |"
    assert beside_paper(found(scores_of(lower=[0.2]))) == ""


def test_conditions_list_common_settings_that_differ_from_the_paper(tmp_path):
    study = Study(
        "brats-1mm",
        ("run.steps=9", "data.workers=3"),
        entry=(Entry("a", "lower"), Entry("b", "lower", ("batch_size=4", "pretrain_optimiser.kind=adamw"))),
    )
    text = conditions(found(scores_of(a=[0.2]), study=replace(study, label="tiny: x"), runs=plan(study, tmp_path)))
    assert "Scored on the split 'test', without mirroring. Size tiny: x." in text
    rows = re.findall(r"^\| ([a-z_.]+) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [("run.steps", "9", "125000")]  # batch_size and b's optimiser are not common, workers irrelevant


@pytest.mark.parametrize("values", [(0, 0.5), ("l1", "l2")])
def test_sweeps_become_rows_sections_and_a_picture(tmp_path, values):
    key = "dante.align_weight" if values[0] == 0 else "dante.align"
    study = replace(STUDY, entry=(), sweep=(Sweep("dante", key, values),), remarks="Read this.")
    runs = plan(study, tmp_path)
    assert collect(runs, "val").empty and write_report(study, runs, "val", tmp_path) == "nothing is scored yet"
    for n, run in enumerate(runs):
        folder = run.folder / "evaluation-val"
        folder.mkdir(parents=True)
        scores_of(x=[0.1 * n]).to_csv(folder / "cases.csv")
    text = write_report(study, runs, "val", tmp_path)
    assert (tmp_path / "sweep.png").stat().st_size > 5000
    titles = re.findall("^## (.*)$", text, re.MULTILINE)
    assert titles == ["Conditions", "Scores", "Values chosen on validation cases", "Remarks"]
    assert list(SECTIONS)[0] == titles[0] and f"**{values[1]}**" in text
    assert (tmp_path / "results.md").read_text() == text + "\n"


def test_study_size_is_scored_on_the_part_named_in_its_file(data, tmp_path, capsys):
    (tmp_path / "study.toml").write_text(
        'split = "val"\n[size.tiny]\nexperiment = "brats-smoke"\nlabel = "two steps"\n'
        '[[entry]]\nname = "lower"\nmethod = "lower"\n'
    )
    out = tmp_path / "out"
    arguments = [
        "study",
        str(tmp_path / "study.toml"),
        "--data",
        str(data),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--quiet",
    ]
    assert main([*arguments, "--size", "tinny"]) == 2 and "its sizes are tiny" in capsys.readouterr().err
    assert main(arguments) == 0
    assert "Scored on the split 'val', without mirroring. Size tiny: two steps." in capsys.readouterr().out
    assert (out / "runs" / "lower-seed1" / "evaluation-val" / "cases.csv").is_file()


def scored(*rows):
    """Method, case, Dice and HD95, both by the BraTS convention, and by lesion where they are given."""
    named = [(method, 1, case, "ET", *(*scores, math.nan, math.nan)[:6], math.nan) for method, case, *scores in rows]
    return Findings(Study("brats-2mm"), [], "test", pd.DataFrame(named, columns=SCORE_COLUMNS))


def test_brats_convention_counts_empty_masks_and_penalises_false_positives_with_the_diagonal():
    """Case A has no such region: one method finds none, the other some; case B is scored as usual."""
    found = scored(
        ("none", "A", math.nan, math.nan, 1.0, 0.0),
        ("none", "B", 0.5, 4.0, 0.5, 4.0),
        ("some", "A", 0.0, math.nan, 0.0, 300.0),
        ("some", "B", 0.5, 4.0, 0.5, 4.0),
    )
    assert line_of(score_table(found), "none") == "| none | 1 | 0.500 (0.500-0.500; 1) | 4.0 (4.0-4.0; 1) |"
    table = brats_table(found)
    assert line_of(table, "none") == "| none | 1 | 0.750 (0.500-1.000; 2) | 2.0 (0.0-4.0; 2) |"
    assert line_of(table, "some") == "| some | 1 | 0.250 (0.000-0.500; 2) | 152.0 (4.0-300.0; 2) |"


def test_empty_mask_table_is_omitted_without_empty_masks_or_with_older_scores():
    assert brats_table(scored(("all", "A", 0.5, 4.0, 0.5, 4.0))) == ""
    empty = scored(("old", "A", math.nan, math.nan, math.nan, math.nan))
    assert brats_table(empty) == ""
    assert brats_table(replace(empty, scores=empty.scores.drop(columns=list(BRATS_COLUMNS)))) == ""


def test_lesion_table_needs_lesion_scores_of_every_run():
    found = scored(("new", "A", 0.5, 4.0, 0.5, 4.0, 0.25, 200.0), ("new", "B", 0.5, 4.0, 0.5, 4.0, 0.75, 10.0))
    assert line_of(lesion_table(found), "new") == "| new | 1 | 0.500 (0.250-0.750; 2) | 105.0 (10.0-200.0; 2) |"
    older = scored(("old", "A", 0.5, 4.0, 0.5, 4.0))
    assert lesion_table(older) == ""
    assert lesion_table(replace(older, scores=older.scores.drop(columns=list(LESION_COLUMNS)))) == ""
    assert lesion_table(replace(older, scores=pd.concat([older.scores, found.scores]))) == ""


def test_report_includes_the_whole_tumour_baseline(tmp_path):
    volumes = {"WT": 30.0, "TC": 10.0, "ET": 0.0}
    scores = pd.DataFrame(
        [(m, 1, "A", region, *(0.5, 4.0) * 3, ml) for m in ("lower", "upper") for region, ml in volumes.items()],
        columns=SCORE_COLUMNS,
    )
    found = Findings(STUDY, plan(STUDY, tmp_path), "test", scores)
    # 2 x 10 / (10 + 30), and 0 for the absent enhancing part
    assert "mask of WT has a Dice of 0.500 of TC, 0.000 of ET:" in of_the_whole(found)
    assert of_the_whole(replace(found, scores=scores.drop(columns="truth_ml"))) == ""
    chest = Study("chest-small", entry=(Entry("lower", "lower"),))
    assert of_the_whole(Findings(chest, plan(chest, tmp_path), "test", scores)) == ""


def test_value_missing_in_all_cases_is_a_dash():
    nowhere = pd.DataFrame([("lower", 1, "A", "ET", 0.0, math.nan, *(0.0, 373.1) * 2, 2.0)], columns=SCORE_COLUMNS)
    assert score_table(Findings(Study("brats-2mm"), [], "test", nowhere)).splitlines()[-1] == (
        "| lower | 1 | 0.000 (0.000-0.000; 1) | - |"
    )
