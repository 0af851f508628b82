"""The counts of `make faults`, which releases are judged by, are correct. The suites themselves do not run here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import tally as tallies
from faults.run import SUITES, shares
from faults.tally import Hung, Refused, Tally, interrupted_after
from faults.traces import MARK, SHARED_MEMORY, Traces, hidden_below, processes_with

from DanteSegmenterLib.errors import InputError

CLEAR = "the file 'x' is cut short. Copy it again."


def raising(error):
    def action():
        raise error

    return action


def counts(**others):
    nothing = {"bad_inputs": 0, "refused": 0, "kills": 0, "lost": 0, "hung": 0, "left_behind": 0}
    return {**nothing, **others}


def test_clear_refusal_passes():
    tally = Tally()
    for error in (InputError(CLEAR), Refused("is this a mask of another set?")):
        tally.expect_refusal("x", raising(error))
    assert tally.counts() == counts(bad_inputs=2, refused=2) and tally.good


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        (lambda: None, "it was accepted"),
        (raising(ValueError("embedded null byte")), "ValueError: embedded null byte"),
        (raising(InputError("")), "an unclear message: ''"),
        (raising(InputError("x.nii is bad.")), "an unclear message: 'x.nii is bad.'"),
        (raising(InputError("Traceback (most recent call last): in line 3.")), "an unclear message"),
    ],
)
def test_acceptance_defect_and_unclear_message_fail(action, outcome):
    tally = Tally()
    tally.expect_refusal("a name", action)
    tally.expect_refusal("a good one", raising(InputError(CLEAR)))
    assert tally.counts() == counts(bad_inputs=2, refused=1, lost=1) and not tally.good
    assert tally.report()["remarks"][0].startswith(f"lost: a name: {outcome}")


def test_late_refusal_counts_as_hang(monkeypatch):
    moments = iter([100.0, 100.0 + tallies.HANG_SECONDS + 1])
    monkeypatch.setattr(tallies.time, "monotonic", lambda: next(moments))
    tally = Tally()
    tally.expect_refusal("x", raising(InputError(CLEAR)))
    assert tally.counts() == counts(bad_inputs=1, refused=1, hung=1) and not tally.good


@pytest.mark.skipif(os.name == "nt", reason="needs an alarm")
def test_hanging_code_is_interrupted_despite_its_exception_handlers(monkeypatch):
    def hanging():
        try:
            time.sleep(30)
        except Exception:
            raise InputError(CLEAR) from None

    with pytest.raises(Hung), interrupted_after(0.05):
        hanging()
    monkeypatch.setattr(tallies, "HANG_SECONDS", 0.05)
    tally = Tally()
    tally.expect_refusal("x", hanging)
    assert tally.counts() == counts(bad_inputs=1, hung=1)


def test_summary_sentence_has_every_count_in_its_place():
    tally = Tally()
    tally.expect_refusal("x", raising(InputError(CLEAR)))
    for kind in ("lost", "left_behind", "left_behind"):
        tally.killed()
        tally.note(kind, "x", "y")
    assert tally.sentence() == "bad_inputs 1, refused 1, kills 3, lost 1, hung 0, left_behind 2"
    assert set(tally.report()) == {*counts(), "remarks"}


@pytest.mark.parametrize("kills", [0, 1, 7, 40, 100])
def test_every_kill_has_a_kind(kills):
    assert sum(shares(kills).values()) == kills and min(shares(kills).values()) >= 0
    assert len(SUITES) == 11


SHARING = """
import sys
from pathlib import Path
file = open(Path(sys.argv[1]) / sys.argv[2], "w")
print("ready", flush=True)
sys.stdin.read()
"""


def started(mark, name):
    """A process that keeps a shared memory file open until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", SHARING, str(SHARED_MEMORY), name],
        env={**os.environ, MARK: mark},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    return process


@pytest.mark.skipif(not SHARED_MEMORY.is_dir() or not Path("/proc/self/environ").exists(), reason="Linux")
def test_only_processes_and_shared_memory_of_this_run_count_as_traces(tmp_path):
    mine, others = f"mine-{os.getpid()}", f"others-{os.getpid()}"
    names = [f"dante-test-of-{mine}", f"dante-test-of-{others}"]
    processes = [started(mark, name) for mark, name in zip((mine, others), names)]
    try:
        traces = Traces(mine)
        traces.look()
        assert processes_with(f"{MARK}={mine}", seconds=0) == [processes[0].pid]
        for process in processes:
            process.communicate()
        assert traces.left_in_memory() == names[:1]
        assert processes_with(f"{MARK}={mine}") == []
    finally:
        for name in names:
            (SHARED_MEMORY / name).unlink(missing_ok=True)


def test_hidden_files_except_locks_count_as_left_behind(tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("result", ".dante-new-1", ".lock"):
        (tmp_path / "out" / name).touch()
    assert hidden_below(tmp_path) == [os.path.join("out", ".dante-new-1")]


def test_hidden_files_are_found_at_any_depth_and_vanishing_folders_are_ignored(tmp_path, monkeypatch):
    (tmp_path / "sub" / ".dante-new-1").mkdir(parents=True)
    (tmp_path / "sub" / ".dante-new-1" / "file").touch()
    (tmp_path / "seen").touch()
    assert hidden_below(tmp_path) == [str(Path("sub") / ".dante-new-1")]
    real = os.scandir

    def gone(path):
        if str(path).endswith(".dante-new-1"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", gone)
    assert hidden_below(tmp_path) == [str(Path("sub") / ".dante-new-1")]
