"""Child processes: what they import, what they must not run, and how they exit."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY

from DanteSegmenterLib.child_process import Child, child_environment
from DanteSegmenterLib.errors import ResourceError

posix = pytest.mark.skipif(os.name != "posix", reason="groups and signals")
MODULE = """
import os, subprocess, sys, time
from DanteSegmenterLib.child_process import when_parent_ends
if "listen" in sys.argv:
    when_parent_ends(lambda: os._exit(7))
if "grandchild" in sys.argv:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("error: some reason", file=sys.stderr, flush=True)
open(sys.argv[1], "w").write(f"{os.getpgid(0) == os.getpid()}")
time.sleep(60)
"""


@pytest.fixture
def start(tmp_path):
    """Start MODULE, and wait until it is running."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "waits.py").write_text(MODULE)
    children = []

    def begin(*arguments, **how):
        output = tmp_path / f"output{len(children)}"
        child = Child.of_module("waits", [str(output), *arguments], paths=[tmp_path / "here"], **how)
        children.append(child)
        until(lambda: output.is_file() and output.read_text())
        return child, output.read_text()

    yield begin
    for child in children:
        child.end()


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@posix
def test_child_leads_a_group_watches_its_parent_and_logs_to_a_file(start):
    child, leads = start("listen")
    assert leads == "True" and child.running and child.last_error_line() == "some reason"
    child.close()
    until(lambda: not child.running)
    assert child.poll() == 7


@posix
def test_stopping_a_child_stops_its_children(start):
    child, _ = start("grandchild")
    child.end()
    assert child.poll() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        until(lambda: os.killpg(child.pid, 0), seconds=5)


@posix
def test_suspended_child_is_stopped(start):
    child, _ = start()
    os.kill(child.pid, signal.SIGSTOP)
    child.end(patience=0.1)
    assert not child.running


def test_files_of_the_current_folder_do_not_shadow_modules(tmp_path):
    """`python -m` would put the current folder before the standard library."""
    for name in ("queue", "torch", "json"):
        (tmp_path / f"{name}.py").write_text("open('pwned', 'w')\nraise ImportError")
    command = [sys.executable, "-m", "DanteSegmenterLib.priority", "DanteSegmenterLib", "info", "nowhere"]
    result = subprocess.run(command, env=child_environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "no model folder" in result.stderr and not (tmp_path / "pwned").exists()


def test_failed_start_of_a_child_is_reported(monkeypatch):
    monkeypatch.setattr("DanteSegmenterLib.child_process.interpreter", lambda: str(REPOSITORY / "no such program"))
    with pytest.raises(ResourceError, match="could not be started"):
        Child.of_module("json.tool")


def test_missing_temporary_folder_is_reported(monkeypatch):
    def full(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("DanteSegmenterLib.child_process.tempfile.TemporaryFile", full)
    with pytest.raises(ResourceError, match="could not be started: .*No usable temporary directory"):
        Child.of_module("json.tool")
