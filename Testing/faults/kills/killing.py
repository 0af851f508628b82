"""A command that is killed, and what must hold afterwards."""

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
"""Environment variable by which the processes of one kill are known."""
# A command that was asked to end has so long; then it counts as hung.
TERM_SECONDS = 20.0
# Of the waiting for a moment at which a command writes.
AIM_SECONDS = 0.001

Attempt = Callable[[int, random.Random], None]
"""Kill number n, with chances of its own; what goes wrong is noted."""


@dataclass(frozen=True)
class Writing:
    """When a command writes its file of this number, which it does under another name, and so many seconds later."""

    number: int
    then: float


Moment = float | Writing
"""Seconds after the start, or a deed."""


@dataclass(frozen=True)
class Kind:
    """What is killed.

    Attributes:
        share: of all kills.
        begun: with a folder and the tally; gives the attempt, and ends what it needs afterwards.
    """

    share: float
    begun: Callable[[Path, Tally], AbstractContextManager[Attempt]]


@dataclass(frozen=True)
class Command:
    """A command whose results lie in a folder.

    Attributes:
        arguments: after the interpreter, for results in a folder.
        begin: puts into it what an earlier run has left.
        wrong: what is wrong with such a folder after a kill, "" if nothing: every file is whole, of before or after.
        result: of a folder in which the command has come to its end; compared.
        answers: it ends by itself when it is asked to (SIGTERM), and leaves nothing.
    """

    arguments: Callable[[Path], list[object]]
    begin: Callable[[Path], object]
    wrong: Callable[[Path], str]
    result: Callable[[Path], object]
    answers: bool = True


@contextlib.contextmanager
def killed(command: Command, folder: Path, tally: Tally) -> Iterator[Attempt]:
    """Attempts on a command, once it has run undisturbed."""
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
        # A third is aimed at one of the first files that it writes, the others at any moment.
        moment: Moment = chance.uniform(0, seconds)
        if n % 3 == 2:
            moment = Writing(chance.randint(1, 3), chance.choice((0, chance.uniform(0, 0.02))))
        when = f"after {moment:.2f} s" if isinstance(moment, float) else f"while it wrote file {moment.number}"
        try:
            tally.killed()
            problems = list(after_the_kill(command, out, name, kill, moment))
            problems += list(after_the_next_run(command, out, wanted))
        except Exception as error:  # a check that meets what it did not foresee
            problems = [("lost", f"{type(error).__name__}: {error}")]
        for what, text in problems:
            tally.note(what, f"{name} ({kill.name}, {when})", text)
        shutil.rmtree(out, ignore_errors=True)

    yield attempt


def after_the_kill(
    command: Command, out: Path, name: str, kill: signal.Signals, moment: Moment
) -> Iterator[tuple[str, str]]:
    """Start, kill, and what is wrong then."""
    mark = f"{KILL_MARK}={name}"
    environment = {**os.environ, KILL_MARK: name}
    arguments = [sys.executable, *map(str, command.arguments(out))]
    with subprocess.Popen(
        arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        wait_for(process, out, moment)
        process.send_signal(kill)
        try:
            said = process.communicate(timeout=TERM_SECONDS)[1].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            yield "hung", "it did not end"
            process.kill()
            said = process.communicate()[1].decode("utf-8", "replace")
    if "Traceback" in said:
        yield "lost", f"a traceback: {said.strip().splitlines()[-1]}"
    if process.returncode not in (DONE, STOPPED, -kill):
        yield "lost", f"exit code {process.returncode}: {said.strip()[-200:]}"
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
    """Until the moment, or the end of the process."""
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
    """The same command once more, and what is wrong then."""
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
    """Run to the end; what it said if that was no good one."""
    arguments = [sys.executable, *map(str, command.arguments(out))]
    try:
        done = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120
        )
    except subprocess.TimeoutExpired:
        return "it did not end"
    said = done.stderr.decode("utf-8", "replace").strip()
    return f"exit code {done.returncode}, {said[-300:]}" if done.returncode != DONE else ""
