"""The processes that prepare batches: their number is limited by memory, and none dies unnoticed."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import REPOSITORY

from DanteSegmenterLib.errors import ResourceError
from DanteTrainerLib.data import batch_processes
from DanteTrainerLib.data.batch_processes import affordable_workers, loaders_watched

MB = 1_000_000


@pytest.mark.parametrize(
    ("free_mb", "batch_mb", "wanted", "workers"),
    [
        (10_000, 100, 8, 8),
        (1_001, 100, 8, 2),  # 800 MB available: eight batches, two plus three for each process
        (64, 100, 8, 0),
        (0, 100, 2, 0),
        (10_000, 100, 0, 0),
    ],
)
def test_number_of_processes_is_limited_by_shared_memory(monkeypatch, capsys, free_mb, batch_mb, wanted, workers):
    disk = SimpleNamespace(f_bavail=free_mb * MB // 4096, f_frsize=4096)
    monkeypatch.setattr(batch_processes.os, "statvfs", lambda _: disk, raising=False)
    assert affordable_workers(wanted, batch_mb * MB) == workers
    assert ("/dev/shm" in capsys.readouterr().err) == (workers < wanted)


def test_number_of_processes_is_not_limited_without_shared_memory(monkeypatch):
    monkeypatch.setattr(batch_processes, "MEMORY_DISK", "/nowhere")
    assert affordable_workers(4, 10**12) == 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "DataLoader worker (pid 7) is killed by signal: Killed. ",
            "was killed, as the system does when memory runs out",
        ),
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible", "/dev/shm is full"),
        ("DataLoader worker (pid 7) exited unexpectedly with exit code 75. Details", "/dev/shm is full"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "was killed"),
    ],
)
def test_premature_exit_of_a_process_is_one_sentence_with_advice(words, sentence):
    with pytest.raises(ResourceError, match=f"{sentence}.*data.workers=0"), loaders_watched():
        raise RuntimeError(words)


def test_other_errors_are_unchanged():
    with pytest.raises(RuntimeError, match="shapes"), loaders_watched():
        raise RuntimeError("shapes do not fit")


LOADING = """
import os, sys
from dataclasses import dataclass
import torch
from torch.utils.data import DataLoader
from DanteTrainerLib.data.batch_processes import loaders_watched, set_up_worker
from DanteTrainerLib.ending import end_children

class Stuck:
    def __reduce__(self):
        raise RuntimeError("unable to allocate shared memory")

class Source(torch.utils.data.Dataset):
    def __getitem__(self, step):
        if step == 3 and sys.argv[1] == "killed":
            os.kill(os.getpid(), 9)
        return Stuck() if step == 3 and sys.argv[1] == "stuck" else step

loader = DataLoader(Source(), batch_size=None, sampler=range(100), num_workers=2, worker_init_fn=set_up_worker)
try:
    with loaders_watched():
        for step in loader:
            pass
except Exception as error:
    print(error)
end_children()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("how", "sentence"), [("killed", "was killed"), ("stuck", "/dev/shm is full")])
def test_dead_or_blocked_batch_process_is_detected(how, sentence):
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
    process = subprocess.Popen(
        [sys.executable, "-c", LOADING, how],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    out, error = process.communicate(timeout=60)
    assert sentence in out and "Traceback" not in error
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # no process is left
