import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from datasets import write_dataset

from DanteSegmenterLib.errors import DanteError, InputError, ResourceError
from DanteTrainerLib import background
from DanteTrainerLib.status import in_use, read_status

REPOSITORY = Path(__file__).resolve().parent.parent
LONG = ["run.steps=100000", "data.patch=[16,16,16]", "features=[4,8]", "strides=[[1,1,1],[2,2,2]]", "workers=0",
        "kernels=[[3,3,3],[3,3,3]]", "spacing_mm=[4.0,4.0,4.0]", "validate_every=0"]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"))


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def test_a_training_is_started_followed_stopped_and_resumed_from_another_process(data, tmp_path):
    run = background.start("lower", data, tmp_path / "run", LONG, device="cpu")
    wait_for(lambda: read_status(run).step > 3)
    status = read_status(run)
    assert status.state == "running" and status.stage == "supervised" and status.steps == 100_000
    with pytest.raises(ResourceError, match="trained already"):
        background.resume(run)
    stopped = background.stop(run)
    assert stopped.state == "stopped" and "resume" in stopped.message and (run / "checkpoint.pt").is_file()
    background.resume(run, device="cpu")
    wait_for(lambda: read_status(run).step > stopped.step)
    assert background.stop(run).step > stopped.step


def test_a_short_training_finishes_and_can_be_evaluated(data, tmp_path):
    run = background.start("lower", data, tmp_path / "run", smoke=True, device="cpu")
    assert background.wait(run, 60).state == "finished"
    assert (background.evaluate(run, data, "test", "cpu") / "cases.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("loser", "DATA", "OUT"), "Did you mean 'lower'"),
        (("lower", "nowhere", "OUT"), "does not exist"),
        (("lower", "DATA", "OUT", ["stepz=1"]), "unknown key"),
        (("lower", "DATA", "missing/OUT"), "does not exist"),
    ],
)
def test_what_the_training_refuses_is_said_in_its_words(data, tmp_path, arguments, reason):
    method, folder, out, *rest = arguments
    with pytest.raises(DanteError, match=reason):
        background.start(method, data if folder == "DATA" else tmp_path / folder, tmp_path / out, *rest)
    assert not (tmp_path / "OUT").exists()


PARENT = """
import sys, time
from DanteTrainerLib import background
background.start("lower", sys.argv[1], sys.argv[2], sys.argv[4:], device="cpu", detach=sys.argv[3] == "detach")
print("started", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("how", ["bound", "detach"])
def test_a_training_ends_with_the_process_that_started_it_unless_detached(data, tmp_path, how):
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(data), str(tmp_path / "run"), how, *LONG],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
    )
    run = tmp_path / "run"
    try:
        assert parent.stdout.readline() == b"started\n"
        wait_for(lambda: read_status(run).step > 1)
        os.kill(parent.pid, signal.SIGKILL)  # however it dies
        parent.wait()
        if how == "bound":
            assert background.wait(run, 30).state == "stopped" and (run / "checkpoint.pt").is_file()
        else:
            step = read_status(run).step
            wait_for(lambda: read_status(run).step > step)
            assert in_use(run)
    finally:
        parent.stdout.close()
        background.stop(run)


def test_a_killed_training_is_known_as_interrupted_and_resumes(data, tmp_path):
    run = background.start("lower", data, tmp_path / "run", [*LONG, "checkpoint_every=1"], device="cpu")
    wait_for(lambda: (run / "checkpoint.pt").is_file())
    background._RUNNING[-1].kill()
    assert background.wait(run, 30).state == "interrupted"
    background.resume(run, device="cpu")
    assert background.stop(run).state == "stopped"


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_process_group_ends_in_a_checkpoint(data, tmp_path, number):
    """As Ctrl-C in a terminal and a cluster's scheduler send it: to the processes that prepare batches too."""
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
    settings = [part for setting in [*LONG, "data.workers=2"] for part in ("--set", setting)]
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "DanteTrainerLib", "train", "lower", "--data", str(data), "--out", str(run), *settings],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for(lambda: (run / "run.json").is_file() and read_status(run).step > 1)
    os.killpg(process.pid, number)
    error = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 1 and "resume the run" in error and "Traceback" not in error
    assert read_status(run).state == "stopped" and (run / "checkpoint.pt").is_file()


def test_another_folder_is_no_run(tmp_path):
    with pytest.raises(InputError, match="is no run folder"):
        background.stop(tmp_path)
