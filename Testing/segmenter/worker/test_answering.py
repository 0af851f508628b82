"""One answer per request, with no more progress messages than a window can use."""

from types import SimpleNamespace

import pytest
from models import study

from DanteSegmenterLib.errors import InputError, ResourceError
from DanteSegmenterLib.worker import server as module
from DanteSegmenterLib.worker.protocol import FailureMessage, Frame, Grid, SegmentRequest, arrays_of
from DanteSegmenterLib.worker.server import Server


@pytest.fixture
def request_of_a_study():
    volumes = study()
    grids = tuple(Grid(name, name, tuple(map(float, v.ijk_to_ras.ravel()))) for name, v in volumes.items())
    return Frame(SegmentRequest(7, "nowhere", "cpu", grids), arrays_of(volumes))


def answers(frame, monkeypatch, error, cancelled=()):
    """The answer when a loaded model raises an error."""
    sent = []

    def model(*_):
        raise error

    monkeypatch.setattr(Server, "_model", model)
    outbox, inbox = SimpleNamespace(send=sent.append), SimpleNamespace(cancelled=set(cancelled))
    Server(outbox, inbox).serve(frame)
    return sent


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (InputError("No such model."), "refused", "No such model."),
        (ResourceError("No such device."), "lacking", "No such device."),
        (MemoryError("Unable to allocate 9 TiB"), "lacking", "memory"),
        (ZeroDivisionError("by 0"), "defect", "ZeroDivisionError: by 0"),
    ],
)
def test_every_failure_is_one_answer_of_its_kind(request_of_a_study, monkeypatch, error, kind, message):
    (answer,) = answers(request_of_a_study, monkeypatch, error)
    assert (answer.id, answer.kind) == (7, kind) and message in answer.message


def test_vanished_peer_gets_no_answer(request_of_a_study, monkeypatch):
    with pytest.raises(BrokenPipeError):
        answers(request_of_a_study, monkeypatch, BrokenPipeError())


def test_cancelled_waiting_run_loads_no_model(request_of_a_study, monkeypatch):
    sent = answers(request_of_a_study, monkeypatch, AssertionError("loaded"), cancelled=[7])
    assert sent == [FailureMessage(7, "cancelled", "Stopped; nothing was changed.")]


def test_progress_is_sent_ten_times_a_second_and_at_phase_changes(monkeypatch):
    sent, now = [], [50.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    tell = module._Throttle(sent.append)
    for n in range(32):  # every sixteenth of a second; every second message is sent
        now[0] = 50 + n / 16
        tell(SimpleNamespace(phase="network" if n < 21 else "restore", n=n))
    assert [progress.n for progress in sent] == [*range(0, 21, 2), *range(21, 32, 2)]
