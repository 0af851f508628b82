"""Kills the worker process behind a window, which must be replaced, or its parent, with which it must exit."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from in_worker import run_in_worker
from models import study, write_brain_model

from DanteSegmenterLib.errors import DanteError
from DanteSegmenterLib.files import write_volume
from DanteSegmenterLib.worker.client import WorkerClient
from faults.kills.killing import KILL_MARK, Attempt
from faults.tally import HANG_SECONDS, Tally
from faults.traces import processes_with

SHAPE = (40, 48, 56)
CLIENTS = 2


@contextmanager
def computing(folder: Path, tally: Tally) -> Iterator[Attempt]:
    """Runs in processes that are warm, or newly started."""
    model, volumes = write_brain_model(folder / "model"), study(SHAPE)
    clients: queue.SimpleQueue[WorkerClient] = queue.SimpleQueue()
    for _ in range(CLIENTS):
        clients.put(WorkerClient())
    first = clients.get()
    wanted = run_in_worker(first, model, volumes, "cpu", mirror=True).label_map
    clients.put(first)

    def attempt(n: int, chance: random.Random) -> None:
        client = clients.get()
        tally.killed()
        try:
            if n % 4 == 3:
                client.close()  # a new process has to import first
            client.begin(model, volumes, "cpu", mirror=True)
            if not ends_after_a_kill(client, chance.uniform(0, 1.5)):
                tally.note("hung", f"worker {n}", "the killed process was not noticed")
                client.kill()
            again = run_in_worker(client, model, volumes, "cpu", mirror=True).label_map
            if not np.array_equal(again, wanted):
                tally.note("lost", f"worker {n}", "another segmentation than before")
        except DanteError as error:
            tally.note("lost", f"worker {n}", f"the next run: {error}")
        finally:
            clients.put(client)

    yield attempt
    for _ in range(CLIENTS):
        clients.get().close()


def ends_after_a_kill(client: WorkerClient, seconds: float) -> bool:
    """Kill the process of a run after some seconds; returns whether the client reports how the run ended, in time."""
    moment, outcome = time.monotonic() + seconds, None
    while outcome is None and time.monotonic() < moment:
        outcome = client.poll()[1]
        client.wait(0.002)
    connection = client._connection  # None if the run had already failed
    if connection is not None:
        child = connection._child
        with contextlib.suppress(OSError):
            os.kill(client.pid or child.pid, signal.SIGKILL)
        child.process.wait(HANG_SECONDS)
    end = time.monotonic() + HANG_SECONDS
    while outcome is None and time.monotonic() < end:
        outcome = client.poll()[1]
        client.wait(0.002)
    return outcome is not None


PARENT = """
import sys
from pathlib import Path
from in_worker import run_in_worker
from DanteSegmenterLib.files import read_volume
from DanteSegmenterLib.worker.client import WorkerClient
model, study = map(Path, sys.argv[1:])
volumes = {path.stem: read_volume(path) for path in sorted(study.iterdir())}
client = WorkerClient()
print("ready", flush=True)
while True:
    run_in_worker(client, model, volumes, "cpu", mirror=True)
"""


@contextmanager
def orphaned(folder: Path, tally: Tally) -> Iterator[Attempt]:
    """A program with a worker process, ended by kill -9."""
    model = write_brain_model(folder / "model")
    (folder / "study").mkdir()
    for name, volume in study(SHAPE).items():
        write_volume(folder / "study" / f"{name}.nii", volume)

    def attempt(n: int, chance: random.Random) -> None:
        tally.killed()
        mark = f"parent {n}"
        command = [sys.executable, "-c", PARENT, str(model), str(folder / "study")]
        with subprocess.Popen(command, env={**os.environ, KILL_MARK: mark}, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            parent.stdout.readline()
            time.sleep(chance.uniform(0, 3.0))
            parent.kill()
        for number in processes_with(f"{KILL_MARK}={mark}"):
            tally.note("left_behind", mark, f"process {number}")
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)

    yield attempt
