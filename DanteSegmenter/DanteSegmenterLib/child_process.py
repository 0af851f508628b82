"""Child processes: how they are started, watched, and ended with the process that started them.

The parent holds the other end of a child's standard input. That closes however the parent ends, kill -9 included, and
the child notices it by `when_parent_ends`. A child leads its own process group (see `priority`): Ctrl-C in the terminal
reaches the parent alone, and ending the group ends whatever the child has started.
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
            pipes: the caller reads standard output and error; else output is dropped and errors go to a file.
            own_session: it has no part in the parent's terminal.
            stdin: it has a standard input, which closes when this process ends.

        Raises:
            ResourceError: it cannot be started.
        """
        self._errors: IO[bytes] | None = None
        try:
            if not pipes:  # a pipe that nobody reads would fill up and block the process
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
        """Start `python -m module arguments` at a lower priority.

        Args:
            pipes: as above.
            detached: it outlives this process, and has no standard input.
            paths: folders of libraries that it imports besides this one.

        Raises:
            ResourceError: it cannot be started.
        """
        command = [interpreter(), *standing_back(), module, *arguments]
        return cls(command, child_environment(*paths), pipes=pipes, own_session=detached, stdin=not detached)

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
        """Standard input, output and error; only for a child with pipes."""
        process = self.process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        return process.stdin, process.stdout, process.stderr

    def complaint(self) -> str:
        """The last line of its standard error; only for a child without pipes."""
        if self._errors is None or self._errors.closed:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else ""

    def close(self) -> None:
        """Close its streams. Unless it is detached, it then saves what it must and ends."""
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def end(self, patience: float = 0.0) -> None:
        """End it and all that it has started: `patience` seconds after `close` by force."""
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
    """Called in a child: runs `action` in a new thread when standard input closes."""
    threading.Thread(target=_wait_for_end, args=(take_over_standard_input(), action), daemon=True).start()


def take_over_standard_input() -> int:
    """A new descriptor for what was standard input; descriptor 0 reads an empty file from now on.

    A thread that blocks in `sys.stdin` holds its lock, and a forked process would wait for that for ever. On Windows
    the loading of a library waits for a thread that reads descriptor 0.
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
    """The environment variables of a child.

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
