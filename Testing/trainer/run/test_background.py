import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from conftest import REPOSITORY
from datasets import write_dataset
from models import write_brain_model

from DanteSegmenterLib.errors import DanteError, InputError, ResourceError
from DanteTrainerLib.locks import in_use
from DanteTrainerLib.run import background
from DanteTrainerLib.status import read_status

# With processes that prepare the batches, like every real training.
LONG = [
    "run.steps=100000",
    "data.patch=[16,16,16]",
    "features=[4,8]",
    "strides=[[1,1,1],[2,2,2]]",
    "workers=2",
    "kernels=[[3,3,3],[3,3,3]]",
    "spacing_mm=[4.0,4.0,4.0]",
    "validate_every=0",
]


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def test_short_training_finishes_and_can_be_evaluated(data, tmp_path):
    run = background.start("lower", data, tmp_path / "run", smoke=True, device="cpu")
    assert background.wait(run, 60).state == "finished"
    assert (background.evaluate(run, data, "test", "cpu") / "cases.csv").is_file()


@pytest.mark.parametrize("overrides", ["run.steps=3", ["run.steps=3"]], ids=["a text", "a list"])
def test_a_single_setting_may_be_given_as_a_text(data, tmp_path, monkeypatch, overrides):
    launched = []
    monkeypatch.setattr(background, "_launch", lambda arguments, *_others: launched.append(arguments))
    background.start("lower", data, tmp_path / "run", overrides)
    [arguments] = launched
    assert arguments[arguments.index("--set") + 1] == "run.steps=3" and arguments.count("--set") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("loser", "DATA", "OUT"), "Did you mean 'lower'"),
        (("lower", "nowhere", "OUT"), "does not exist"),
        (("lower", "DATA", "OUT", ["stepz=1"]), "unknown key"),
        (("lower", "DATA", "missing/OUT"), "does not exist"),
    ],
)
def test_refusal_of_the_training_is_passed_on_verbatim(data, tmp_path, arguments, reason):
    method, folder, out, *rest = arguments
    with pytest.raises(DanteError, match=reason):
        background.start(method, data if folder == "DATA" else tmp_path / folder, tmp_path / out, *rest)
    assert not (tmp_path / "OUT").exists()


PARENT = """
import sys
from DanteTrainerLib.run import background
data, run, how, *settings = sys.argv[1:]
background.start("lower", data, run, settings, device="cpu", detach=how == "detach")
print("started", flush=True)
for line in sys.stdin:  # until it ends
    print(getattr(background, line.strip())(run), flush=True)
"""
MARK = "DANTE_TEST_MARK"


def family(mark):
    """Command lines of all living processes with this mark in their environment, by process id."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has just exited
            continue
    return found


class Parent:
    """A process that starts a training, with a pipe as its standard input; its descendants can be listed."""

    def __init__(self, *arguments):
        self.mark = uuid.uuid4().hex
        paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": paths, MARK: self.mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self):
        return self.process.stdout.readline().strip()

    def call(self, name):
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        return self.says()

    def end(self, how):
        """ "orderly": close its standard input; "killed": SIGKILL."""
        self.process.stdin.close() if how == "orderly" else self.process.kill()
        self.process.wait(timeout=30)
        self.process.stdout.close()

    def family(self):
        """The running processes that it or its children started."""
        return {pid: command for pid, command in family(self.mark).items() if pid != self.process.pid}

    def clean_up(self):
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()
        for pid in self.family():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def parent(data, tmp_path):
    """Starts a `Parent`; all of its processes are removed afterwards."""
    parents = []

    def begin(how="bound", settings=LONG, cases=None):
        parents.append(Parent(cases or data, tmp_path / "run", how, *settings))
        return parents[-1]

    yield begin
    for one in parents:
        one.clean_up()


linux = pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="counts processes in /proc")


@linux
def test_training_started_through_a_pipe_leaves_no_process(parent, tmp_path):
    run, slicer = tmp_path / "run", parent()
    assert slicer.says() == "started"
    wait_for(lambda: read_status(run).step > 0)
    assert len(slicer.family()) == 3  # the training, and two that prepare its batches
    slicer.end("orderly")
    wait_for(lambda: not slicer.family(), 30)
    assert read_status(run).state == "stopped" and (run / "checkpoint.pt").is_file()


@linux
def test_training_is_stopped_and_resumed_through_a_pipe_and_leaves_no_process_when_killed(parent, tmp_path):
    run, slicer = tmp_path / "run", parent()
    assert slicer.says() == "started"
    wait_for(lambda: read_status(run).step > 0)
    status = read_status(run)  # as read by another process that cannot train it either
    assert status.state == "running" and status.stage == "supervised" and status.steps == 100_000
    with pytest.raises(ResourceError, match="trained already"):
        background.resume(run)
    assert "state='stopped'" in slicer.call("stop") and not slicer.family()
    stopped = read_status(run)
    assert "resume" in stopped.message and (run / "checkpoint.pt").is_file()
    slicer.call("resume")
    wait_for(lambda: read_status(run).step > stopped.step)
    assert len(slicer.family()) == 3
    slicer.end("killed")
    wait_for(lambda: not slicer.family(), 30)
    assert read_status(run).state == "stopped"


@linux
def test_detached_training_outlives_its_parent(parent, tmp_path):
    run, slicer = tmp_path / "run", parent("detach")
    assert slicer.says() == "started"
    wait_for(lambda: read_status(run).step > 0)
    slicer.end("killed")
    step = read_status(run).step
    wait_for(lambda: read_status(run).step > step)
    assert in_use(run)
    assert background.stop(run).state == "stopped"
    wait_for(lambda: not slicer.family(), 10)


# Preparing takes half a minute: many cases on a fine grid.
SLOW = [*LONG, "spacing_mm=[0.6,0.6,0.6]"]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("many"), 24)


def preparing(slicer, run):
    """Wait until two processes prepare cases."""
    assert slicer.says() == "started"
    wait_for(lambda: len(slicer.family()) == 3 and list((run / "cache").glob("[!.]*")))


@linux
def test_no_process_is_left_during_preparation(parent, many, tmp_path):
    run, slicer = tmp_path / "run", parent("bound", SLOW, many)
    preparing(slicer, run)
    slicer.end("killed")
    wait_for(lambda: not slicer.family(), 10)
    assert read_status(run).state == "stopped" and len(list((run / "cache").glob("[!.]*"))) < 22


@linux
def test_training_is_stopped_immediately_during_preparation(parent, many, tmp_path):
    run, slicer = tmp_path / "run", parent("bound", SLOW, many)
    preparing(slicer, run)
    start = time.monotonic()
    assert "state='stopped'" in slicer.call("stop") and time.monotonic() - start < 10
    assert not slicer.family() and not list((run / "cache").glob(".writing*"))


@linux
def test_preparation_processes_exit_with_a_killed_training(parent, many, tmp_path):
    run, slicer = tmp_path / "run", parent("bound", SLOW, many)
    preparing(slicer, run)
    os.kill(min(slicer.family()), signal.SIGKILL)
    wait_for(lambda: not slicer.family(), 10)


EVALUATING = "import sys; from DanteTrainerLib.run import background; background.evaluate(*sys.argv[1:])"


@linux
def test_no_evaluation_is_left_when_its_parent_is_killed(many, tmp_path, monkeypatch):
    monkeypatch.setenv(MARK, uuid.uuid4().hex)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    model = write_brain_model(tmp_path / "model")
    slicer = subprocess.Popen([sys.executable, "-c", EVALUATING, model, many, "train"])
    wait_for(lambda: len(family(os.environ[MARK])) == 2)
    slicer.kill()
    slicer.wait()
    wait_for(lambda: not family(os.environ[MARK]), 15)
    assert not list(model.glob("evaluation-train/cases.csv"))


def test_non_waiting_caller_learns_later_how_a_verbose_training_started(data, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONVERBOSE", "1")  # a line per import: more than a pipe holds if it waited for a reader
    start = time.monotonic()
    run = background.start("lower", data, tmp_path / "run", LONG, device="cpu", until_started=False)
    assert time.monotonic() - start < 0.5
    assert background.status(run).state == "starting"
    wait_for(lambda: background.status(run).step > 0)
    start = time.monotonic()
    assert background.stop(run, 0).state == "running" and time.monotonic() - start < 0.5
    assert background.wait(run, 30).state == "stopped"


def test_starting_training_is_stopped_before_it_begins(data, tmp_path):
    run = background.start("lower", data, tmp_path / "run", LONG, device="cpu", until_started=False)
    assert background.stop(run).state == "stopped"


def test_non_waiting_caller_gets_the_refusal(data, tmp_path):
    run = background.start("loser", data, tmp_path / "run", device="cpu", until_started=False)
    wait_for(lambda: background.status(run).state != "starting")
    status = background.status(run)
    assert status.state == "failed" and "Did you mean 'lower'" in status.message and not run.exists()


@linux
def test_killed_training_leaves_no_process_is_interrupted_and_resumes(parent, tmp_path):
    run, slicer = tmp_path / "run", parent("bound", [*LONG, "checkpoint_every=1"])
    wait_for(lambda: (run / "checkpoint.pt").is_file())
    os.kill(min(slicer.family()), signal.SIGKILL)
    wait_for(lambda: not slicer.family(), 30)
    wait_for(lambda: read_status(run).state == "interrupted", 5)  # the system takes a moment to release its locks
    background.resume(run, device="cpu")
    assert background.stop(run).state == "stopped"


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_signal_to_the_process_group_ends_in_a_checkpoint(data, tmp_path, number):
    """As sent by Ctrl-C in a terminal and by a cluster's scheduler: also to the processes that prepare batches."""
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
    settings = [part for setting in LONG for part in ("--set", setting)]
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "DanteTrainerLib", "train", "lower", "--data", str(data), "--out", str(run), *settings],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for(lambda: (run / "run.json").is_file() and read_status(run).step > 0)
    os.killpg(process.pid, number)
    error = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 1 and "resume the run" in error and "Traceback" not in error
    assert read_status(run).state == "stopped" and (run / "checkpoint.pt").is_file()


def test_other_folder_is_not_a_run(tmp_path):
    with pytest.raises(InputError, match="is no run folder"):
        background.stop(tmp_path)
