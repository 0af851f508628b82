"""When a run's status is written during training."""

import time
from pathlib import Path

import pytest

from DanteTrainerLib.status import RunStatus, StatusWriter, stored_status, write_status


@pytest.fixture
def clock(monkeypatch):
    """Seconds, set by the test."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_first_step_is_reported_at_once_then_every_second_and_always_the_last(tmp_path, clock):
    writer, steps = StatusWriter(tmp_path), []
    for step in range(1, 6):  # 0.6 s apart
        writer.step("supervised", step, 5, 0.5)
        steps.append(stored_status(tmp_path).step)
        clock[0] += 0.6
    assert steps == [1, 1, 3, 3, 5]


def test_remaining_time_is_based_on_the_steps_since_the_first(tmp_path, clock):
    writer = StatusWriter(tmp_path)
    writer.step("supervised", 41, 100, None)
    assert stored_status(tmp_path).seconds_left is None
    clock[0] += 30
    writer.step("supervised", 51, 100, None)
    assert stored_status(tmp_path).seconds_left == pytest.approx(147)  # 49 steps of 3 s
    clock[0] += 0.1
    writer.step("stage-2", 1, 100, None)
    status = stored_status(tmp_path)
    assert (status.stage, status.step, status.seconds_left) == ("stage-2", 1, None)


def test_status_being_replaced_on_windows_is_read_a_moment_later(tmp_path, monkeypatch):
    """Otherwise it would seem to be that of a new run, and nothing more would be reported."""
    write_status(tmp_path, RunStatus("running", step=7))
    read, refused = Path.read_text, []

    def read_unless_replaced(path, **options):
        if not refused:
            refused.append(PermissionError(13, "Access is denied"))
            refused[0].winerror = 5
            raise refused[0]
        return read(path, **options)

    monkeypatch.setattr(Path, "read_text", read_unless_replaced)
    assert stored_status(tmp_path) == RunStatus("running", step=7)
