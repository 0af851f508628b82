"""The files of an evaluation are whole, from one evaluation, and from the model that they name."""

import errno
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from DanteSegmenterLib.errors import InputError, ResourceError
from DanteSegmenterLib.guard.plain_text import csv_cell
from DanteTrainerLib.evaluation.evaluate import Summary, read_summary, write_scores
from DanteTrainerLib.evaluation.tables import read_table, write_table


class Picture:
    """Replaces a contact sheet."""

    def __init__(self, error=None):
        self.error = error

    def save(self, path):
        path.write_text("half")
        if self.error:
            raise self.error


TABLE = pd.DataFrame({"case": ["A", "NA"], "region": "WT", "dice": [0.5, np.nan], "hd95_mm": [1.0, np.inf]})
SUMMARY = Summary("m", "limited", "test", 2, {})


@pytest.fixture
def scores(tmp_path):
    """An earlier evaluation."""
    write_scores(tmp_path, TABLE, SUMMARY, Picture())
    return tmp_path


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_scores_round_trip(scores):
    assert sorted(content(scores)) == ["cases.csv", "contact_sheet.png", "summary.json"]
    assert replace(read_summary(scores), table_sha256="") == SUMMARY
    pd.testing.assert_frame_equal(read_table(scores / "cases.csv"), TABLE, check_dtype=False)  # including the case NA


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left"), ResourceError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (RuntimeError("of the picture"), RuntimeError),
    ],
)
def test_unwritable_evaluation_writes_nothing(scores, error, raised):
    before = content(scores)
    with pytest.raises(raised):
        write_scores(scores, TABLE.assign(dice=0.1), replace(SUMMARY, cases=1), Picture(error))
    assert content(scores) == before


def test_pages_of_a_larger_old_evaluation_are_removed(scores):
    for name in ("contact_sheet_2.png", "contact_sheet_2024_mine.png"):
        (scores / name).touch()
    write_scores(scores, TABLE, SUMMARY, Picture())
    assert not (scores / "contact_sheet_2.png").exists() and (scores / "contact_sheet_2024_mine.png").exists()


def test_mismatched_files_are_no_scores(scores):
    write_table(TABLE.assign(dice=0.1), scores / "cases.csv")
    with pytest.raises(InputError, match="cut, edited or exchanged. Evaluate again"):
        read_summary(scores)
    (scores / "cases.csv").unlink()
    with pytest.raises(InputError, match="no folder that `evaluate` wrote"):
        read_summary(scores)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000])
def test_invalid_summary_is_one_sentence(scores, text):
    (scores / "summary.json").write_text(text)
    with pytest.raises(InputError):
        read_summary(scores)


@pytest.mark.parametrize(
    "name", [os.fsdecode(b"M\xfcller"), "a\nb", "=HYPERLINK(1)", 'Müller, "H"', "NA", "1e5", "007"]
)
def test_any_case_name_is_plain_text_in_the_table(tmp_path, name):
    write_table(TABLE.assign(case=name), tmp_path / "t.csv")
    assert set(read_table(tmp_path / "t.csv").case) == {csv_cell(name)}


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00"])
def test_invalid_table_is_one_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match="no table of scores"):
        read_table(tmp_path / "t.csv")
