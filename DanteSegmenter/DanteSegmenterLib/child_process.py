"""Start and monitor child processes, and end them with the process that started them.

The parent holds the other end of a child's standard input. It closes however the parent ends, even by kill -9, and the
child detects that with `when_parent_ends`. A child leads its own process group (see `priority`): Ctrl-C in the terminal
reaches only the parent, and killing the group also ends everything that the child has started.
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
from .priority import low_priority_arguments, windows_flags

KILL_SECONDS = 1.0


class Child:
    """A child process.

    Attributes:
        process: the process itself.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        pipes: bool,
        own_session: bool,
        stdin: bool = True,
    ) -> None:
        """Start a program.

        Args:
            pipes: the caller reads standard output and error; otherwise output is discarded and errors go to a file.
            own_session: detach it from the parent's terminal.
            stdin: give it a standard input, which closes when this process ends.

        Raises:
            ResourceError: it cannot be started.
        """
        self._errors: IO[bytes] | None = None
        try:
            if not pipes:  # an unread pipe would fill up and block the process
                self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
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

    @classmethod
    def of_module(
        cls,
        module: str,
        arguments: Sequence[str] = (),
        *,
        pipes: bool = False,
        detached: bool = False,
        paths: Sequence[Path] = (),
    ) -> Child:
        """Start `python -m module arguments` with lower priority.

        Args:
            pipes: as in `__init__`.
            detached: it outlives this process, and has no standard input.
            paths: further library folders that it imports from.

        Raises:
            ResourceError: it cannot be started.
        """
        command = [interpreter(), *low_priority_arguments(), module, *arguments]
        return cls(command, child_environment(*paths), pipes=pipes, own_session=detached, stdin=not detached)

    def poll(self) -> int | None:
        """The exit code; None while it is running."""
        return self.process.poll()

    @property
    def running(self) -> bool:
        return self.poll() is None

    @property
    def pid(self) -> int:
        return self.process.pid

    def streams(self) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
        """Standard input, output and error; only for a child with pipes."""
        process = self.process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        return process.stdin, process.stdout, process.stderr

    def last_error_line(self) -> str:
        """The last line of its standard error; only for a child without pipes."""
        if self._errors is None or self._errors.closed:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else ""

    def close(self) -> None:
        """Close its streams. Unless detached, the child then saves its state and ends."""
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def end(self, patience: float = 0.0) -> None:
        """End it and everything that it has started; killed `patience` seconds after `close`."""
        self.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=patience)
        if os.name == "posix":
            with contextlib.suppress(OSError):  # the group has ended already, or the child does not lead it yet
                os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=KILL_SECONDS)


def when_parent_ends(action: Callable[[], None]) -> None:
    """In a child: call `action` in a new thread when standard input closes."""
    threading.Thread(target=_wait_for_end, args=(take_over_standard_input(), action), daemon=True).start()


def take_over_standard_input() -> int:
    """Move standard input to a new descriptor, which is returned; descriptor 0 then reads an empty file.

    A thread blocked in `sys.stdin` holds its lock, on which a forked process would wait forever. On Windows, loading a
    library waits for a thread that reads descriptor 0.
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
    """Environment variables for a child.

    The child imports this library and those in the folders `more`, writes UTF-8, and does not import modules from the
    current folder.
    """
    here = [*map(str, more), str(Path(__file__).resolve().parents[1])]
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    paths = {"PYTHONPATH": os.pathsep.join([*here, *known]), "PYTHONSAFEPATH": "1"}
    return {**os.environ, **paths, "PYTHONIOENCODING": "utf-8"}


class WindowOptions(TypedDict, total=False):
    """Arguments of `Popen` that exist on Windows only."""

    creationflags: int


def window_options() -> WindowOptions:
    """Arguments for `Popen`: on Windows no console window, and a lower priority than Slicer's."""
    return {"creationflags": windows_flags()} if os.name == "nt" else {}
