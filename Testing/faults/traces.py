"""Finds what a run of faults leaves behind: temporary files, processes and their shared memory.

The run has its own temporary folder and a mark in its environment, which child processes inherit, so that other
programs are ignored. Processes are found on Linux only.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "DANTE_FAULTS"
"""Environment variable: the folder of this run."""
PROCESSES, SHARED_MEMORY = Path("/proc"), Path("/dev/shm")
LOOK_SECONDS = 0.2
# Time for processes to exit after their parent.
END_SECONDS = 10.0
# Lock files may remain after a kill: the next run reuses them, so they are not traces.
LASTING = re.compile(r".*\.lock")


class Traces:
    """Tracks a run's processes by their mark; shared memory belongs to the run if one of them has it open, or if its
    name contains the number of one of them."""

    def __init__(self, mark: str) -> None:
        self._mark = f"{MARK}={mark}"
        self._numbers: set[int] = set()
        self._others: set[int] = set()
        self._shared: set[str] = set()

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """Poll repeatedly in the background."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(LOOK_SECONDS):
                self.look()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def look(self) -> None:
        """Record the current processes of this run, and their shared memory."""
        numbers = process_numbers()
        self._others &= numbers
        for number in numbers - self._others:
            if number not in self._numbers and not bears(number, self._mark):
                self._others.add(number)
                continue
            self._numbers.add(number)
            self._shared |= shared_memory_of(number)

    def left_in_memory(self) -> list[str]:
        """Shared memory files of this run that still exist."""
        self.look()
        with contextlib.suppress(OSError):
            return sorted(name for name in os.listdir(SHARED_MEMORY) if self._is_ours(name))
        return []

    def _is_ours(self, name: str) -> bool:
        return name in self._shared or any(int(part) in self._numbers for part in re.findall(r"\d{2,9}", name))


def process_numbers() -> set[int]:
    """The ids of all processes."""
    try:
        return {int(name) for name in os.listdir(PROCESSES) if name.isdigit()}
    except OSError:
        return set()


def bears(number: int, mark: str) -> bool:
    """Whether a process has `mark`, NAME=VALUE, in its environment; False for zombies."""
    try:
        return mark.encode() in (PROCESSES / str(number) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def shared_memory_of(number: int) -> set[str]:
    """Names of the shared memory files that a process has open."""
    found = set()
    with contextlib.suppress(OSError):
        for link in (PROCESSES / str(number) / "fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(link))
        maps = (PROCESSES / str(number) / "maps").read_text(errors="replace")
        found |= {line.split(maxsplit=5)[5] for line in maps.splitlines() if f"{SHARED_MEMORY}/" in line}
    begin = f"{SHARED_MEMORY}/"
    return {path.removeprefix(begin) for path in found if path.startswith(begin) and "(deleted)" not in path}


def processes_with(mark: str, seconds: float = END_SECONDS) -> list[int]:
    """Other processes with `mark`, NAME=VALUE, that are still running after this time."""
    deadline = time.monotonic() + seconds
    while True:
        found = sorted(number for number in process_numbers() - {os.getpid()} if bears(number, mark))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def hidden_below(folder: Path) -> list[str]:
    """Hidden files of our programs, which are temporary."""
    # Not `rglob`, which fails if a folder vanishes during the search.
    found = [Path(place, name) for place, folders, files in os.walk(folder) for name in (*folders, *files)]
    hidden = [path for path in found if path.name.startswith(".") and not LASTING.fullmatch(path.name)]
    return sorted(str(path.relative_to(folder)) for path in hidden)
