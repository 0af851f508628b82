"""The commands as programs: at any moment, a signal ends them soon, with a message and without leftovers."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY
from datasets import write_dataset

from DanteTrainerLib.__main__ import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

SMALL = [
    "run.steps=2",
    "run.pretrain_steps=0",
    "data.patch=[16,16,16]",
    "data.spacing_mm=[4,4,4]",
    "run.validate_every=0",
    "network.features=[2,4]",
    "network.strides=[[1,1,1],[2,2,2]]",
    "network.kernels=[[3,3,3],[3,3,3]]",
]
STUDY = f'experiment = "brats-2mm"\nset = {json.dumps(SMALL)}\n[[entry]]\nname = "lower"\nmethod = "lower"\n'
CARD = 'name="N"\nversion="2"\nlicence="x"\nintended_use="y"\ntraining_data="z"\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A dataset, and a finished run on it with an evaluation and a published model."""
    place = tmp_path_factory.mktemp("place")
    data, run = str(write_dataset(place / "data", 6)), str(place / "run")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    assert main(["train", "lower", "--data", data, "--out", run, "--quiet", "--device", "cpu", *settings]) == 0
    (place / "study.toml").write_text(STUDY)
    (place / "card.toml").write_text(CARD)
    assert main(["evaluate", run, "--data", data, "--out", str(place / "scores"), "--quiet", "--device", "cpu"]) == 0
    assert main(["publish", run, "--card", str(place / "card.toml"), "--to", str(place / "public")]) == 0
    return place


# Reads lines of JSON with a moment, its command and the file for standard error; forks for each, and reports the
# child's process id and how it exited. In the child, the moment's function reports that it was reached and sleeps on
# its first call, which makes the moment last. Starting processes from scratch would import torch each time.
LASTING = """
import importlib, json, os, sys, time
from DanteTrainerLib import __main__ as command
from DanteTrainerLib.ending import EndRequest
import DanteTrainerLib.evaluation.evaluate, DanteTrainerLib.release.publish, DanteTrainerLib.study.run

def last(moment):
    module, _, name = moment.rpartition(".")
    module = importlib.import_module(module)
    was = getattr(module, name)
    def lasting(*arguments, **named):
        print("there", file=sys.stderr, flush=True)
        time.sleep(60)
        return was(*arguments, **named)
    setattr(module, name, lasting)

for line in sys.stdin:
    moment, arguments, errors = json.loads(line)
    if pid := os.fork():
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        continue
    os.setsid()
    os.dup2(os.open(errors, os.O_WRONLY), 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    stop = EndRequest()
    last(moment)
    code = command.main(arguments, stop)
    command.end_children()
    sys.exit(code)
"""


@pytest.fixture(scope="module")
def forking():
    """The process that forks."""
    with started("-c", LASTING, stdin=subprocess.PIPE) as process:
        yield process
        process.stdin.close()


class Lasting:
    """A command held at a moment; has the methods of `Popen` used by `ends`."""

    def __init__(self, forking, errors, moment, command):
        self._forking = forking
        os.mkfifo(errors)
        forking.stdin.write(json.dumps([moment, [str(part) for part in command], str(errors)]) + "\n")
        forking.stdin.flush()
        self.stderr = open(errors, encoding="utf-8")  # noqa: SIM115 - closed by `communicate`
        self.pid = int(forking.stdout.readline())
        while "there" not in (line := self.stderr.readline()):
            assert line, "it ended before that moment"

    def communicate(self, timeout):
        with self.stderr:
            words = self.stderr.read()
        self.returncode = int(self._forking.stdout.readline())
        return "", words


def started(*command, **options):
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def ends(process, number, whole_group=True):
    """(exit code, output) after a signal sent to the whole group, as from a terminal; no process may be left."""
    start = time.monotonic()
    (os.killpg if whole_group else os.kill)(process.pid, number)
    error = process.communicate(timeout=30)[1]
    assert time.monotonic() - start < 6 and "Traceback" not in error  # one second on an idle machine
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, error


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def command(place, name, out):
    data = place / "data"
    return {
        "evaluate": ["evaluate", place / "run", "--data", data, "--split", "val", "--out", out, "--device", "cpu"],
        "publish": ["publish", place / "run", "--card", place / "card.toml", "--to", out],
        "study": ["study", place / "study.toml", "--data", data, "--out", out, "--device", "cpu", "--quiet"],
    }[name]


MOMENTS = [
    ("evaluate", "DanteTrainerLib.evaluation.evaluate.truth_masks", "no new scores"),
    ("evaluate", "DanteTrainerLib.evaluation.evaluate.summarise", "no new scores"),
    ("evaluate", "DanteTrainerLib.evaluation.evaluate.sha256_of", "no new scores"),
    ("publish", "DanteTrainerLib.release.publish.write_spec", "nothing was published"),
    ("publish", "DanteTrainerLib.release.publish._check_whole", "nothing was published"),
    ("study", "DanteTrainerLib.data.cache._places", "run the study again|resume the run"),
    ("study", "DanteTrainerLib.evaluation.evaluate.truth_masks", "run the study again"),
    ("study", "DanteTrainerLib.run.train.write_model", "run the study again"),
]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=["Ctrl-C", "SIGTERM"]
)
@pytest.mark.parametrize(("name", "moment", "words"), MOMENTS, ids=[f"{n} {m.split('.')[-1]}" for n, m, _ in MOMENTS])
def test_command_stopped_at_any_moment_keeps_existing_files(
    place, forking, tmp_path_factory, tmp_path, name, moment, words, number
):
    out, before = tmp_path / "out", {"evaluate": place / "scores", "publish": place / "public"}.get(name)
    if before:
        shutil.copytree(before, out)
    kept = content(out) if before else {}
    errors = tmp_path_factory.mktemp("errors") / "pipe"
    code, error = ends(Lasting(forking, errors, moment, command(place, name, out)), number)
    assert code == 1 and any(word in error for word in words.split("|"))
    if before:
        assert content(tmp_path) == {f"out/{file}": data for file, data in kept.items()}
        return
    assert not [path for path in tmp_path.rglob(".*") if not path.name.endswith(".lock")]
    assert main([str(part) for part in command(place, name, out)]) == 0
    assert list(out.rglob("cases.csv"))


def listens(pid):
    """Whether a process has its own SIGTERM handler, unlike plain Python; assumed without /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = int(re.search(r"^SigCgt:\s*(\w+)", status, flags=re.MULTILINE).group(1), 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize(
    "seconds", [0.3, pytest.param(0.6, marks=pytest.mark.slow), 1.0, pytest.param(1.5, marks=pytest.mark.slow), 2.5]
)
def test_ctrl_c_during_imports_prints_no_traceback(place, tmp_path, seconds):
    process = started("-m", "DanteTrainerLib", *command(place, "evaluate", tmp_path / "out"))
    while process.poll() is None and not listens(
        process.pid
    ):  # before its first line, a signal reaches only Python itself
        time.sleep(0.005)
    time.sleep(seconds)
    if process.poll() is None:
        assert ends(process, signal.SIGINT)[0] in (0, 1)
    process.communicate()
    assert not content(tmp_path) or (tmp_path / "out" / "summary.json").is_file()
