"""Processes of ours: how they are started, listened to, and ended with the process that started them.

A child has standard input from its parent, which closes however the parent ends, kill -9 included; the child listens to
that with `when_parent_ends`. It leads a group of its own (`priority`): Ctrl-C in the parent's terminal is the parent's
affair, and what the child starts ends with its group.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TypedDict

from .errors import ResourceError
from .priority import standing_back, windows_flags

KILL_SECONDS = 1.0


class Child:
    """One process of ours.

    Attributes:
        process: as Python has it.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        pipes: bool = False,
        detached: bool = False,
        paths: Sequence[Path] = (),
    ) -> None:
        """Start `python -m module arguments`.

        Args:
            pipes: standard output and error are read by the caller; else the first goes nowhere, the second to a file.
            detached: it outlives this process, and has no standard input.
            paths: folders with libraries beside this one.

        Raises:
            ResourceError: it cannot be started.
        """
        command = [interpreter(), *standing_back(), module, *arguments]
        self._start(command, child_environment(*paths), pipes, listens=not detached, own_session=detached)

    @classmethod
    def of_program(cls, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start a program that is not ours, with pipes; it leads a session of its own, without the parent's terminal.

        Raises:
            ResourceError: it cannot be started.
        """
        child = cls.__new__(cls)
        child._start(command, environment, pipes=True, listens=True, own_session=True)
        return child

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str], pipes: bool, listens: bool, own_session: bool
    ) -> None:
        # A pipe that nobody reads would fill up and hold the process.
        self._errors = None if pipes else tempfile.TemporaryFile()  # noqa: SIM115 - closed by `let_go`
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if listens else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stderr=subprocess.PIPE if pipes else self._errors,
                bufsize=0,
                env=environment,
                **window_options(),
                start_new_session=os.name == "posix" and own_session,
            )
        except OSError as error:
            if self._errors is not None:
                self._errors.close()
            raise ResourceError(f"The computing process could not be started: {error}.") from None

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self.process.poll()

    @property
    def running(self) -> bool:
        return self.poll() is None

    @property
    def pid(self) -> int:
        return self.process.pid

    def streams(self) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
        """Standard input, output and error, of a child with pipes."""
        process = self.process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        return process.stdin, process.stdout, process.stderr

    def complaint(self) -> str:
        """The last line it wrote to standard error, as a sentence; of a child without pipes."""
        if self._errors is None or self._errors.closed:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else ""

    def let_go(self) -> None:
        """Close what connects it with this process: unless it is detached, it ends, when it has saved what it must."""
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def end(self, patience: float = 0.0) -> None:
        """End it with all that it started; it has so many seconds to do so itself."""
        self.let_go()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=patience)
        if os.name == "posix":
            with contextlib.suppress(OSError):  # it has ended with its group, or leads none yet
                os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=KILL_SECONDS)


def when_parent_ends(action: Callable[[], None]) -> None:
    """In a child: call `action`, in a thread of its own, when standard input closes."""
    threading.Thread(target=_wait_for_end, args=(take_over_standard_input(), action), daemon=True).start()


def take_over_standard_input() -> int:
    """A descriptor that reads what was standard input, which is empty from now on.

    A thread that sits in `sys.stdin` holds its lock, and a forked process waits for ever to close it; on Windows
    loading a library waits for whoever reads the descriptor 0.
    """
    source, empty = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return source


def _wait_for_end(source: int, action: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        while os.read(source, 4096):
            pass
    action()


def interpreter() -> str:
    """Slicer's Python launcher, which sets up its environment; outside Slicer the running interpreter."""
    return shutil.which("PythonSlicer") or sys.executable


def child_environment(*more: Path) -> dict[str, str]:
    """In which a child finds this library and those in the folders `more`, writes UTF-8, and runs no code that lies in
    the current folder under the name of a module."""
    here = [*map(str, more), str(Path(__file__).resolve().parents[1])]
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    paths = {"PYTHONPATH": os.pathsep.join([*here, *known]), "PYTHONSAFEPATH": "1"}
    return {**os.environ, **paths, "PYTHONIOENCODING": "utf-8"}


class WindowOptions(TypedDict, total=False):
    """Of `Popen`, on Windows."""

    creationflags: int


def window_options() -> WindowOptions:
    """For `Popen`: no console window on Windows, and less right to the processor than the window that asks has."""
    return {"creationflags": windows_flags()} if os.name == "nt" else {}
