"""Exit codes, messages and streams of the commands."""

import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import REPOSITORY

from DanteSegmenterLib import program
from DanteSegmenterLib.errors import Cancelled, InputError, sentence_of

RAISED = [
    (InputError("'t1' is\nno volume."), 2, "error: 't1' is no volume."),
    (MemoryError(), 2, "error: there is not enough memory"),
    (PermissionError(13, "Permission denied", "/a/b"), 2, "error: Permission denied: '/a/b'."),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "error: UnicodeDecodeError: "),
    (ZeroDivisionError("division by zero"), 2, "error: ZeroDivisionError: division by zero (test_program.py, line "),
    (Cancelled("Stopped."), 1, "Stopped; nothing was written."),
    (KeyboardInterrupt(), 1, "Stopped; nothing was written."),
]


@pytest.mark.parametrize(("error", "code", "message"), RAISED)
def test_every_error_is_one_sentence_and_an_exit_code(capsys, error, code, message):
    def action(stop):
        raise error

    assert program.run(action) == code
    text = capsys.readouterr().err
    assert text.startswith(message) and text.count("\n") == 1


def test_system_error_names_its_file_if_any():
    assert sentence_of(OSError(28, "No space left on device")) == "No space left on device: a file or pipe."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_interrupts_code_that_does_not_handle_it(number):
    before = signal.getsignal(number)

    def deaf(stop):
        os.kill(os.getpid(), number)
        time.sleep(10)

    def listening(stop):
        assert not stop()
        os.kill(os.getpid(), number)
        while not stop():
            time.sleep(0.01)
        os.kill(os.getpid(), number)  # a second signal takes effect at once
        time.sleep(10)

    start = time.monotonic()
    assert program.run(deaf) == program.STOPPED and program.run(listening) == program.STOPPED
    assert time.monotonic() - start < 5 and signal.getsignal(number) is before


def test_stopped_command_reports_what_is_kept(capsys):
    def action(stop):
        stop.message = "Stopped; what is finished stays."
        raise KeyboardInterrupt

    assert program.run(action) == program.STOPPED
    assert capsys.readouterr().err == "Stopped; what is finished stays.\n"


def test_command_in_another_thread_runs_without_signals():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(program.run(lambda stop: None)))
    thread.start()
    thread.join()
    assert codes == [program.DONE]


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("stream", [None, Full(), io.TextIOWrapper(io.BytesIO(), "ascii", errors="replace")])
def test_unprintable_output_does_not_fail(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    program.say("Größe 患者")


def test_printed_text_cannot_move_the_cursor_or_change_direction():
    assert program.printable("a\x1b[2J\x07\u202eb\tc\n") == "a\ufffd[2J\ufffd\ufffdb\tc\n"


CLOSED = "import os, sys; os.close({number}); sys.argv[1:] = ['info', 'nowhere']; "
CLOSED += "import runpy; runpy.run_module('DanteSegmenterLib', run_name='__main__')"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_closed_standard_stream_does_not_change_the_exit_code(number):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "DanteSegmenter")}
    command = [sys.executable, "-c", CLOSED.format(number=number)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and "Traceback" not in result.stderr
