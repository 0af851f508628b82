"""The client's reaction to wrong, late or missing answers of a process, with a stand-in for the process."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from models import brain_spec, study, write_brain_model

from DanteSegmenterLib.errors import Cancelled, ResourceError
from DanteSegmenterLib.host.address import Host
from DanteSegmenterLib.model_folder import read_spec
from DanteSegmenterLib.options import DEFAULTS
from DanteSegmenterLib.result import Finding, Report
from DanteSegmenterLib.worker import client as module
from DanteSegmenterLib.worker.client import WorkerClient, WorkerDied
from DanteSegmenterLib.worker.protocol import (
    FailureMessage,
    FrameReader,
    ModelWanted,
    ProgressMessage,
    ProtocolError,
    ResultMessage,
)

ELSEWHERE = Host("elsewhere")


class StandIn:
    """A connection that returns the items of `answers` one exchange at a time, or raises them if they are errors."""

    usable, hello, seconds = True, None, {}

    def __init__(self, host, _):
        self.host, self.answers, self.sent, self.ends = host, [], [], []

    def send(self, frame):
        self.sent += [message.message for message in FrameReader().feed(b"".join(map(bytes, frame)))]

    def exchange(self):
        answers, self.answers = self.answers, []
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def ended(self):
        return None

    def stage(self):
        return ""

    def end(self, patience):
        self.ends.append(patience)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("models") / "one")


@pytest.fixture
def clock(monkeypatch):
    """Seconds, set by the test."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def started(folder, clock, monkeypatch):
    """The client and the connection of a run, on another computer if requested."""
    monkeypatch.setattr(module, "Connection", StandIn)

    def begin(host=None):
        client = WorkerClient()
        client.begin(folder, study(), "cpu", host=host)
        return client, client._connection

    return begin


def test_unresponsive_cancelled_run_is_terminated_with_its_process(started, clock):
    client, process = started()
    client.cancel()
    client.cancel()
    assert [message.type for message in process.sent] == ["segment", "cancel"]
    clock[0] += 1.1
    assert client.poll()[1] is None and not process.ends
    clock[0] += 0.2
    assert isinstance(client.poll()[1], Cancelled) and process.ends == [0.0] and not client.running


def test_messages_of_a_finished_run_are_ignored(started):
    client, process = started()
    process.answers = [(FailureMessage(99, "defect", "of another"), ()), (ProgressMessage(99, "network", 1, "x"), ())]
    assert client.poll() == (None, None) and client.running


def test_process_that_sends_an_invalid_message_is_terminated(started):
    client, process = started()
    process.answers = [ProtocolError("no message begins with b'GET '.")]
    outcome = client.poll()[1]
    assert isinstance(outcome, WorkerDied) and "no message begins with" in str(outcome)
    assert process.ends == [0.0] and client.pid is None


def test_seconds_left_are_those_of_the_network(started, clock):
    client, process = started()
    seconds_left = []
    for seconds, fraction in ((0, 0.1), (1, 0.11), (3, 0.6)):
        clock[0] += seconds
        process.answers = [(ProgressMessage(1, "network", fraction, "Segmenting"), ())]
        seconds_left.append(client.poll()[0].seconds_left)
    assert seconds_left == [None, None, pytest.approx(3.2)]  # 4 s for five tenths, four tenths are left


def test_model_is_sent_to_another_host_once_and_never_locally(started):
    client, process = started(ELSEWHERE)
    process.answers = [(ModelWanted(1), ())]
    assert client.poll()[1] is None and [message.type for message in process.sent] == ["segment", "model"]
    for own, its in ((client, process), started()):
        its.answers = [(ModelWanted(1), ())]
        assert isinstance(own.poll()[1], WorkerDied) and its.ends == [0.0]


def result_of(weights):
    findings = tuple(Finding(region.id, 0.0, 0.0, 0.0) for region in brain_spec().regions)
    report = Report("test model", "1", weights, DEFAULTS, findings, {}, "cpu (float32)")
    return ResultMessage(1, "t1", report), (np.zeros((20, 24, 28), np.uint8),)


@pytest.mark.parametrize("part", ["whole", "start", "none", "another's"])
def test_remote_result_must_come_from_the_weights_of_the_model(started, folder, part):
    digest = read_spec(folder).limited.digest
    client, process = started(ELSEWHERE)
    process.answers = [result_of({"whole": digest, "start": digest[:12], "none": "", "another's": "0" * 12}[part])]
    outcome = client.poll()[1]
    if part in ("whole", "start"):
        assert outcome.device == "cpu (float32) at elsewhere"
    else:
        assert isinstance(outcome, WorkerDied) and "of another model" in str(outcome)


@pytest.mark.parametrize(
    "change",
    [
        lambda message, arrays: (message, ()),
        lambda message, arrays: (message, (arrays[0][1:],)),
        lambda message, arrays: (message, (arrays[0].astype(np.int16),)),
        lambda message, arrays: (replace(message, brain=True), arrays),
        lambda message, arrays: (replace(message, modality="t3"), arrays),
        lambda message, arrays: (replace(message, alignments={"t2": (1.0,) * 15}), arrays),
    ],
    ids=["none", "shape", "type", "no mask", "modality", "matrix"],
)
def test_arrays_that_do_not_fit_the_volumes_are_refused(started, change):
    client, process = started()
    process.answers = [change(*result_of("0" * 12))]
    assert isinstance(client.poll()[1], WorkerDied) and process.ends == [0.0]


def test_model_path_does_not_depend_on_the_working_folder(started, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(module, "Connection", StandIn)
    client = WorkerClient()
    client.begin(folder.name, study(), "cpu")
    assert client._connection.sent[0].model == os.path.abspath(folder)


def test_python_without_non_blocking_pipes_is_refused_in_a_sentence(folder, monkeypatch):
    """Windows, before Python 3.12."""
    monkeypatch.delattr(os, "set_blocking")
    with pytest.raises(ResourceError, match="on Windows this needs Python 3.12 or newer"):
        WorkerClient().begin(folder, study(), "cpu")
