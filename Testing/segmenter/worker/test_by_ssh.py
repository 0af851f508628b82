"""A remote host: a real sshd on the loopback, whose account prints a long greeting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from in_worker import run_in_worker
from models import study, write_brain_model
from ssh_server import NAME, command_of, descendants, script, ssh_server

from DanteSegmenterLib.errors import Cancelled, DanteError
from DanteSegmenterLib.host.address import parse_host
from DanteSegmenterLib.host.model_cache import digest_of
from DanteSegmenterLib.inference import load_model, segment
from DanteSegmenterLib.worker import connection
from DanteSegmenterLib.worker.client import WorkerClient
from DanteSegmenterLib.worker.outcome import HostFailed, WorkerDied

GREETING = "i=0; while [ $i -lt 200 ]; do echo 'DNTE Welcome to conda \\033[31m'; echo note >&2; i=$((i+1)); done\n"
HOST = f"ssh:{NAME}"
CUT_SECONDS = 5.0


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    with ssh_server(tmp_path_factory.mktemp("far")) as server:
        (server.home / ".bashrc").write_text(GREETING)
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("models") / "one", with_full=True)


@pytest.fixture(scope="module")
def client(far):
    client = WorkerClient()
    yield client
    client.close()


def run(client, folder, volumes=None, device="cpu", python=sys.executable, host=HOST, **options):
    return run_in_worker(client, folder, volumes or study(), device, host=parse_host(host, python), **options)


def stored(far, folder):
    """All expected remote files: the account's own, and the model."""
    names = ("full.safetensors", "limited.safetensors", "model.json")
    return [".bashrc", *(f".cache/dante/models/{digest_of(folder)}/{name}" for name in names)]


def outcome_of(client, seconds):
    """The outcome of the run within the given time, polled as by a window."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        outcome = client.poll()[1]
        if outcome is not None:
            return outcome
        client.wait(0.01)
    raise AssertionError(f"no outcome within {seconds} s")


def until(condition, seconds=CUT_SECONDS):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def begin_long(client, folder):
    """Start a run that takes some seconds, and wait until it reaches the network."""
    run(client, folder)
    client.begin(folder, study((60, 90, 90)), "cpu", host=parse_host(HOST, sys.executable), mirror=True)
    phase = ""
    while phase != "network":
        progress, outcome = client.poll()
        assert outcome is None
        phase = progress.phase if progress is not None else phase
        client.wait(0.01)


def test_remote_result_is_bit_identical_and_the_model_is_sent_once(client, far, folder):
    here = segment(load_model(folder, "cpu"), study(), probabilities=True)
    messages = []
    there = run(client, folder, probabilities=True, progress=lambda progress: messages.append(progress.message))
    assert np.array_equal(here.label_map, there.label_map) and here.report.findings == there.report.findings
    assert np.array_equal(here.probabilities.astype(np.float16), there.probabilities)
    assert there.report.device == f"{here.report.device} at {NAME}"
    assert f"Connecting to {NAME}" in messages and f"Starting the computing process on {NAME}" in messages
    assert far.files() == stored(far, folder)


def test_reading_notes_are_in_the_remote_result(client, folder):
    volumes = study()
    volumes["t2"] = replace(volumes["t2"], notes=("WARNING: 't2': left and right may be exchanged.",))
    here = segment(load_model(folder, "cpu"), volumes)
    there = run(client, folder, volumes)
    assert there.report.notes == here.report.notes and there.report.notes[0] == volumes["t2"].notes[0]


def test_second_run_reuses_the_process_and_sends_no_model(client, far, folder):
    first = run(client, folder)
    pid, workers = client.pid, far.workers()
    before = {path: path.stat().st_mtime_ns for path in far.home.rglob("*.*") if path.is_file()}
    again = run(client, folder)
    assert client.pid == pid and far.workers() == workers == [pid]
    assert np.array_equal(first.label_map, again.label_map) and again.report.seconds["load"] < 0.05
    assert before == {path: path.stat().st_mtime_ns for path in far.home.rglob("*.*") if path.is_file()}


def test_remote_refusals_match_local_ones_and_name_the_host(client, folder):
    bad = study()
    bad["t2"].array[5, 8, 9] = np.nan
    with pytest.raises(DanteError, match="^'t2' holds 1 voxels that are NaN"):
        run(client, folder, bad)
    with pytest.raises(DanteError, match="^On 'far': the device 'cuda:7' is not available on this computer"):
        run(client, folder, device="cuda:7")


def test_remote_run_is_cancelled_and_the_process_kept(client, folder):
    run(client, folder)
    pid = client.pid
    asked = iter([False] * 5)
    with pytest.raises(Cancelled):
        run(client, folder, study((60, 90, 90)), mirror=True, cancelled=lambda: next(asked, True))
    assert run(client, folder).label_map.any() and client.pid == pid


def test_locally_altered_model_is_not_sent_and_the_process_is_free_again(client, far, tmp_path, folder):
    altered = write_brain_model(tmp_path / "altered", seed=3)
    with open(altered / "limited.safetensors", "ab") as file:
        file.write(b"x")
    pid = client.pid
    with pytest.raises(DanteError, match="is not the file the model was released with"):
        run(client, altered)
    assert run(client, folder).label_map.any() and client.pid == (pid or client.pid)
    assert far.files() == stored(far, folder)


def test_lost_connection_is_reported_once_and_the_remote_run_stops(client, far, folder):
    begin_long(client, folder)
    (worker,) = far.workers()
    ssh = client._connection._child.pid
    for pid in (*descendants(ssh), ssh):
        os.kill(pid, signal.SIGKILL)
    outcome = outcome_of(client, CUT_SECONDS)
    assert isinstance(outcome, WorkerDied) and "the connection was cut" in str(outcome)
    assert client.poll() == (None, None) and not client.running
    assert until(lambda: worker not in far.workers() and not far.sessions())
    assert far.files() == stored(far, folder)


@pytest.mark.slow
def test_next_run_reconnects_after_a_kill_or_a_lost_server(client, far, folder):
    begin_long(client, folder)
    first = client.pid
    os.kill(first, signal.SIGKILL)
    outcome = outcome_of(client, CUT_SECONDS)
    assert isinstance(outcome, WorkerDied) and "it was killed" in str(outcome)
    begin_long(client, folder)
    second = client.pid
    assert second != first
    far.stop()
    try:
        outcome = outcome_of(client, CUT_SECONDS)
        assert isinstance(outcome, WorkerDied) and "was lost; nothing was changed" in str(outcome)
        assert until(lambda: not os.path.exists(f"/proc/{second}"))
        with pytest.raises(HostFailed, match="'far' cannot be reached"):
            run(client, folder)
    finally:
        far.start()
    assert run(client, folder).label_map.any() and far.files() == stored(far, folder)


@pytest.mark.slow
def test_idle_remote_process_exits_and_the_next_run_starts_another(far, folder):
    client = WorkerClient(idle_seconds=0.3)
    run(client, folder)
    first = client.pid
    assert until(lambda: first not in far.workers())
    assert run(client, folder).label_map.any() and client.pid != first
    second = client.pid
    client.close()
    assert until(lambda: second not in far.workers())


PROCESS_WITH_A_CHILD = """
import os, subprocess, sys
os.setpgid(0, 0)
child = subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE)
print(child.pid, file=sys.stderr, flush=True)
from DanteSegmenterLib.worker import server
server.main(["--by-ssh"])
"""


def test_remote_child_processes_stop_with_the_connection():
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "DanteSegmenter")}
    command, pipe = [sys.executable, "-c", PROCESS_WITH_A_CHILD], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as process:
        child = int(process.stderr.readline())
        assert process.stdout.read(len(connection.GREETING) - 1).startswith(b"\0DANTE-WORKER ")
        process.stdin.close()
        assert process.wait(CUT_SECONDS) == -signal.SIGKILL
    assert until(lambda: not Path(f"/proc/{child}").exists() or b"sleep" not in command_of(child))


@pytest.mark.parametrize(
    ("settings", "host", "wanted"),
    [
        ({"key": "wrong_key"}, HOST, "'far' did not let you in: 'ssh far' in a terminal"),
        ({"known": False}, HOST, "The key of 'far' is not known here: run 'ssh far'"),
        ({}, "ssh:nowhere.invalid", "There is no computer 'nowhere.invalid'"),
        ({}, "ssh:127.0.0.1:1", "'127.0.0.1' cannot be reached"),
    ],
)
def test_unreachable_host_is_explained_in_one_sentence(far, folder, settings, host, wanted):
    far.write_client_settings(**settings)
    try:
        with pytest.raises(HostFailed, match=wanted) as failure:
            run(WorkerClient(), folder, host=host)
    finally:
        far.write_client_settings()
    assert str(failure.value).isprintable()


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("exit 127", "There is no '.*' that runs on 'far'"),
        (f'exec env PYTHONPATH= {sys.executable} -S "$@"', "has no slicer-dante: install it there"),
        (f"printf '\\0DANTE-WORKER {connection.PROTOCOL_VERSION - 1}\\0'; sleep 60", "update it there"),
        (f"printf '\\0DANTE-WORKER {connection.PROTOCOL_VERSION + 1}\\0'; sleep 60", "update it here"),
        ("while :; do echo more and more; done", "sends something that is not DANTE's: '.*more and more"),
        ("echo closed for today; exit 1", r"ended unexpectedly \(exit code 1\). Its last words: closed for today"),
        ("cat > got", "did not answer within 1 s"),
    ],
)
def test_foreign_program_is_detected_and_gets_no_volume(far, folder, monkeypatch, program, wanted):
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 30.0 if "within" not in wanted else 1.0)
    got = far.folder / "got"
    script(far.folder / "python", f"#!/bin/sh\ncd {far.folder}\n{program}\n")
    (far.home / ".bashrc").rename(far.folder / "greeting")
    client = WorkerClient()
    try:
        with pytest.raises(HostFailed, match=wanted) as failure:
            run(client, folder, python=str(far.folder / "python"))
    finally:
        (far.folder / "greeting").rename(far.home / ".bashrc")
    assert str(failure.value).isprintable() and not client.running and client.pid is None
    assert not got.exists() or got.read_bytes() == b""


def test_host_name_cannot_inject_an_ssh_proxy_command(far, folder, tmp_path):
    with pytest.raises(DanteError, match="is no computer"):
        run(WorkerClient(), folder, host=f"ssh:-oProxyCommand=touch {tmp_path}/hacked")
    assert not list(tmp_path.iterdir())
