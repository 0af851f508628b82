"""Requests to end a command: signals, the stop file, and the exit of its parent."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

BEGIN = """
import multiprocessing, os, pathlib, sys, time
from DanteTrainerLib import ending
stop = ending.EndRequest("nothing to save")
def ready():
    print("ready", flush=True)
"""


def program(code, *arguments, **options):
    """A program with a `stop`, once it has printed that it is ready."""
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def ends(process, seconds=6.0):
    """(exit code, further output, errors), with some extra time for a busy machine."""
    start = time.monotonic()
    out, error = process.communicate(timeout=30)
    assert time.monotonic() - start < seconds
    assert "Traceback" not in error
    return process.returncode, out, error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("busy", ["time.sleep(60)", "[None for _ in iter(int, 1)]", "os.read(os.pipe()[0], 1)"])
def test_signal_ends_the_program_while_no_loop_handles_it(number, busy):
    process = program(f"ready(); {busy}")
    process.send_signal(number)
    assert ends(process) == (1, "", "nothing to save\n")


def test_cleanups_run_in_reverse_order_despite_failures():
    process = program("""
with ending.on_stop(lambda message: print("first", message, flush=True)), ending.on_stop(lambda _: 1 / 0):
    with ending.on_stop(lambda _: print("over", flush=True)):
        pass
    with ending.on_stop(lambda _: print("second", flush=True)):
        ready(); time.sleep(60)
""")
    process.send_signal(signal.SIGTERM)
    assert ends(process)[:2] == (1, "second\nfirst nothing to save\n")


def test_pool_processes_exit_with_the_program():
    process = program("""
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
child.start()
ready(); print(child.pid, flush=True); time.sleep(60)
""")
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    assert ends(process)[0] == 1
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_pool_processes_exit_with_a_killed_program():
    process = program("""
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(2, initializer=ending.end_with_parent) as pool:
    for _ in range(2):
        pool.submit(time.sleep, 60)
    time.sleep(0.5)  # until they have begun
    ready(); print(*pool._processes, flush=True); time.sleep(60)
""")
    children = [int(word) for word in process.stdout.readline().split()]
    process.kill()
    process.communicate()
    wait_until_gone(children)


def wait_until_gone(pids, seconds=6.0):
    """Zombies count as gone: their new parent has not collected them yet."""
    end = time.monotonic() + seconds
    left = pids
    while left and time.monotonic() < end:
        left = [pid for pid in left if alive(pid)]
        time.sleep(0.02)
    assert not left


def alive(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


LOOP = """
with ending.stop_checked_by_loop({save}):
    stop() or ready()
    time.sleep({step})
    while not stop():
        time.sleep({step})
    print("answered", flush=True)
sys.exit(1)
"""


def test_loop_handles_the_first_signal_after_its_step():
    process = program(LOOP.format(save="None", step=0.3))
    process.send_signal(signal.SIGTERM)
    code, out, error = ends(process)
    assert (code, out) == (1, "answered\n") and "Stopping after this step (again: at once)" in error


def test_long_step_is_abandoned_and_the_state_before_it_saved():
    process = program(LOOP.format(save="lambda: (print('saved', flush=True), 'Saved.')[1]", step=60))
    process.send_signal(signal.SIGINT)
    code, out, error = ends(process)
    assert (code, out) == (1, "saved\n") and error.endswith("Saved.\n")


def test_second_signal_ends_a_loop_that_cannot_save():
    process = program(LOOP.format(save="None", step=60))
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert ends(process)[0] == 1


def test_new_stop_file_ends_the_program_unless_a_loop_handles_it(tmp_path):
    file = tmp_path / "stop"
    file.touch()
    watching = "\nwith stop.watching(pathlib.Path(sys.argv[1])):\n    ready(); time.sleep(60)"
    process = program(watching, file)
    time.sleep(1)
    assert process.poll() is None
    file.touch()
    assert ends(process)[::2] == (1, "nothing to save\n")
    process = program(
        f"\nwith ending.stop_checked_by_loop():{watching.replace(chr(10), chr(10) + '    ')}", tmp_path / "other"
    )
    (tmp_path / "other").touch()
    time.sleep(1)
    assert process.poll() is None
    process.kill()
    process.communicate()


def test_end_of_standard_input_is_a_stop_request_and_others_read_it_as_empty():
    process = program(
        "stop.end_with_standard_input(); ready(); print(repr(sys.stdin.read()), flush=True); time.sleep(60)"
    )
    assert process.stdout.readline() == "''\n"
    process.stdin.close()
    process.stdin = None
    assert ends(process)[0] == 1


def test_dependent_process_exits_with_its_parent():
    process = program("""
if os.fork() == 0:
    stop = ending.EndRequest("parent gone")
    stop.end_with_parent(); time.sleep(0.5)
    ready(); print(os.getpid(), flush=True); time.sleep(60)
time.sleep(60)
""")
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    wait_until_gone([child])
    assert process.communicate()[1] == "parent gone\n"


PLACES = """
import os, sys, threading, time
from pathlib import Path
from DanteTrainerLib import ending
folder, target = Path(sys.argv[1]), Path(sys.argv[2])
with ending.on_stop(lambda _: [file.unlink() for file in folder.iterdir()]):
    with ending.finish_before_stop():
        threading.Thread(target=ending.end_now, args=("Stopped.",)).start()
        time.sleep(0.5)  # the end waits
        (folder / "one").touch(), (folder / "two").touch()
        os.replace(folder, target)
    time.sleep(20)
"""


def test_cleanups_wait_for_a_replacement_in_progress(tmp_path):
    (tmp_path / "new").mkdir()
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
    command = [sys.executable, "-c", PLACES, str(tmp_path / "new"), str(tmp_path / "target")]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, timeout=60)
    assert result.returncode == 1 and result.stderr == b"Stopped.\n"
    assert sorted(path.name for path in (tmp_path / "target").iterdir()) == ["one", "two"]
