"""Kills a command, and checks what must hold afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from DanteSegmenterLib.program import DONE, STOPPED
from faults.tally import HANG_SECONDS, Tally
from faults.traces import hidden_below, processes_with

KILL_MARK = "DANTE_FAULTS_KILL"
"""Environment variable that identifies the processes of a kill."""
# Time for a command to exit after SIGTERM before it counts as hung.
TERM_SECONDS = 20.0
# Polling interval while waiting for a command to write.
AIM_SECONDS = 0.001

Attempt = Callable[[int, random.Random], None]
"""Perform kill number n with the given random generator; problems are noted in the tally."""


@dataclass(frozen=True)
class Writing:
    """The moment some seconds after a command starts writing its n-th file, under a temporary name."""

    number: int
    then: float


Moment = float | Writing
"""Seconds after the start, or an event."""


@dataclass(frozen=True)
class Kind:
    """A kind of process to kill.

    Attributes:
        share: of all kills.
        start: takes a folder and the tally; a context that yields the attempt, and cleans up afterwards.
    """

    share: float
    start: Callable[[Path, Tally], AbstractContextManager[Attempt]]


@dataclass(frozen=True)
class Command:
    """A command that writes its results into a folder.

    Attributes:
        arguments: after the interpreter, for a results folder.
        begin: writes the results of an earlier run into it.
        wrong: describes what is wrong with the folder after a kill, "" if every file is whole, old or new.
        result: the result in the folder after a complete run, for comparison.
        answers: the command exits on SIGTERM by itself and leaves nothing behind.
    """

    arguments: Callable[[Path], list[object]]
    begin: Callable[[Path], object]
    wrong: Callable[[Path], str]
    result: Callable[[Path], object]
    answers: bool = True


@contextlib.contextmanager
def killed(command: Command, folder: Path, tally: Tally) -> Iterator[Attempt]:
    """Yield attempts on a command, after running it once without a kill."""
    whole = folder / "undisturbed"
    whole.mkdir(parents=True)
    command.begin(whole)
    start = time.monotonic()
    last = run_again(command, whole)
    seconds = time.monotonic() - start
    assert not last, last
    wanted = command.result(whole)

    def attempt(n: int, chance: random.Random) -> None:
        name, out = f"{folder.name} {n}", folder / str(n)
        out.mkdir()
        command.begin(out)
        kill = signal.SIGKILL if n % 2 else signal.SIGTERM
        # A third of the kills aim at one of the first files it writes, the others at any moment.
        moment: Moment = chance.uniform(0, seconds)
        if n % 3 == 2:
            moment = Writing(chance.randint(1, 3), chance.choice((0, chance.uniform(0, 0.02))))
        when = f"after {moment:.2f} s" if isinstance(moment, float) else f"while it wrote file {moment.number}"
        try:
            tally.killed()
            problems = list(after_the_kill(command, out, name, kill, moment))
            problems += list(after_the_next_run(command, out, wanted))
        except Exception as error:  # an unexpected error in a check
            problems = [("lost", f"{type(error).__name__}: {error}")]
        for what, text in problems:
            tally.note(what, f"{name} ({kill.name}, {when})", text)
        shutil.rmtree(out, ignore_errors=True)

    yield attempt


def after_the_kill(
    command: Command, out: Path, name: str, kill: signal.Signals, moment: Moment
) -> Iterator[tuple[str, str]]:
    """Start and kill the command; yields the problems found."""
    mark = f"{KILL_MARK}={name}"
    environment = {**os.environ, KILL_MARK: name}
    arguments = [sys.executable, *map(str, command.arguments(out))]
    with subprocess.Popen(
        arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        wait_for(process, out, moment)
        process.send_signal(kill)
        try:
            errors = process.communicate(timeout=TERM_SECONDS)[1].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            yield "hung", "it did not end"
            process.kill()
            errors = process.communicate()[1].decode("utf-8", "replace")
    if "Traceback" in errors:
        yield "lost", f"a traceback: {errors.strip().splitlines()[-1]}"
    if process.returncode not in (DONE, STOPPED, -kill):
        yield "lost", f"exit code {process.returncode}: {errors.strip()[-200:]}"
    for number in processes_with(mark):
        yield "left_behind", f"process {number}"
        with contextlib.suppress(OSError):
            os.kill(number, signal.SIGKILL)
    wrong = command.wrong(out)
    if wrong:
        yield "lost", wrong
    if kill != signal.SIGKILL and command.answers:
        for path in hidden_below(out):
            yield "left_behind", path


def wait_for(process: subprocess.Popen[bytes], out: Path, moment: Moment) -> None:
    """Wait until the moment, or until the process exits."""
    if isinstance(moment, float):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        return
    start, seen = time.monotonic(), set(hidden_below(out))
    for _ in range(moment.number):
        new: set[str] = set()
        while process.poll() is None and time.monotonic() - start < HANG_SECONDS and not new:
            time.sleep(AIM_SECONDS)
            new = set(hidden_below(out)) - seen
        seen |= new
    time.sleep(moment.then)


def after_the_next_run(command: Command, out: Path, wanted: object) -> Iterator[tuple[str, str]]:
    """Run the command again; yields the problems found."""
    failure = run_again(command, out)
    if failure:
        yield "lost", f"the next run: {failure}"
        return
    result = command.result(out)
    if result != wanted:
        yield "lost", f"the next run gave another result: {str(result)[:200]} instead of {str(wanted)[:200]}"
    for path in hidden_below(out):
        yield "left_behind", path


def run_again(command: Command, out: Path) -> str:
    """Run to the end; returns a description of the failure, if any."""
    arguments = [sys.executable, *map(str, command.arguments(out))]
    try:
        done = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120
        )
    except subprocess.TimeoutExpired:
        return "it did not end"
    errors = done.stderr.decode("utf-8", "replace").strip()
    return f"exit code {done.returncode}, {errors[-300:]}" if done.returncode != DONE else ""
