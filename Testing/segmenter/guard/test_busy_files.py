"""Windows refuses to touch a file that another program has open for a moment; the test stands in for it."""

import os
import time

import pytest

from DanteSegmenterLib.errors import ResourceError
from DanteSegmenterLib.files import write_atomically
from DanteSegmenterLib.guard.busy_files import BUSY_SECONDS, move, retry_while_busy
from DanteSegmenterLib.guard.replace_folder import swap_in, unfinished_folder


def refusal(winerror):
    error = PermissionError(13, "Access is denied")
    error.winerror = winerror
    return error


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass where somebody sleeps."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.fixture
def reader(monkeypatch, clock):
    """Has every file open until so many moves were tried."""
    moves, replace, left = [], os.replace, [3]

    def replace_unless_read(source, target):
        moves.append(target)
        if left[0]:
            left[0] -= 1
            raise refusal(32)
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_unless_read)
    return moves


@pytest.mark.parametrize("winerror", [5, 32])
def test_busy_file_is_retried(clock, winerror):
    outcomes = [refusal(winerror), refusal(winerror), "read"]

    def action():
        outcome = outcomes.pop(0)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    assert retry_while_busy(action) == "read" and clock[0] < 100.1


def test_one_that_stays_busy_is_given_up(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(refusal(32)))
    with pytest.raises(PermissionError):
        move(tmp_path / "new", tmp_path / "old")
    assert clock[0] == pytest.approx(100 + BUSY_SECONDS, abs=0.1)


def test_another_failure_is_told_at_once(tmp_path, clock):
    with pytest.raises(FileNotFoundError):
        move(tmp_path / "not there", tmp_path / "target")
    assert clock[0] == 100


def test_summary_is_written_while_the_window_reads_it(tmp_path, reader):
    path = tmp_path / "summary.csv"
    path.write_text("before")
    write_atomically(path, lambda file: file.write_text("after"))
    assert path.read_text() == "after" and reader == [path] * 4


def test_summary_kept_open_by_a_spreadsheet_is_refused_in_a_sentence(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(refusal(32)))
    with pytest.raises(ResourceError, match="could not be written: Access is denied. Nothing was changed"):
        write_atomically(tmp_path / "summary.csv", lambda file: file.write_text("after"))


def test_folder_is_swapped_in_while_a_scanner_reads_its_files(tmp_path, reader):
    with unfinished_folder(tmp_path) as new:
        (new / "model.json").write_text("{}")
        swap_in(new, tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]
