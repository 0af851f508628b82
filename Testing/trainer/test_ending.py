"""How a training is asked to end: signals, the stop file, and the end of whoever started it."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY

from DanteSegmenterLib.errors import Cancelled
from DanteTrainerLib.ending import StopRequest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture
def stop():
    """A request in this process; the signals are pytest's own again afterwards."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    yield StopRequest(message="nothing to save")
    for number, handler in before:
        signal.signal(number, handler)


def test_while_nobody_asks_the_first_signal_interrupts(stop):
    with pytest.raises(Cancelled, match="nothing to save"):
        signal.raise_signal(signal.SIGTERM)


def test_once_the_loop_asks_the_first_signal_is_its_answer_and_the_second_interrupts(stop):
    assert not stop()
    signal.raise_signal(signal.SIGINT)
    assert stop()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_stop_file_interrupts_unless_it_was_there_before(stop, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    with stop.watching(old):
        time.sleep(1)
    with pytest.raises(Cancelled), stop.watching(new):
        new.touch()
        time.sleep(10)


def test_a_stop_file_is_the_loops_own_affair_once_it_asks(stop, tmp_path):
    assert not stop()
    with stop.watching(tmp_path / "new"):
        (tmp_path / "new").touch()
        time.sleep(1)
    assert not stop()


STUBBORN = """
import multiprocessing, sys, time
from DanteSegmenterLib.errors import Cancelled
from DanteTrainerLib import ending
ending.IMPATIENCE_SECONDS = 3.0
stop = ending.StopRequest(with_parent=True)
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
child.start()
print(child.pid, repr(sys.stdin.read()), flush=True)
while True:
    try:
        time.sleep(60)
    except Cancelled:
        print("did not listen", flush=True)
"""


def test_a_process_that_does_not_listen_is_ended_with_its_children_when_its_parent_goes():
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], env={**os.environ, "PYTHONPATH": paths}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    child, read = process.stdout.readline().split()
    assert read == "''"  # standard input is empty for everybody else
    assert process.poll() is None
    process.stdin.close()
    assert process.stdout.readline() == "did not listen\n"
    assert process.wait(10) == 1
    process.stdout.close()
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(int(child), 0)
            time.sleep(0.05)
