"""What a run of faults leaves behind: files in its own temporary folder, its own processes, their shared memory.

The run has a temporary folder for itself and a mark in its environment, which its children inherit: what other programs
do meanwhile is not its affair. Processes are found on Linux alone.
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
# Processes that end with their parent have so long for it.
END_SECONDS = 10.0
# Waits for its end where a process uses a file lock; not a trace of a kill, the next run takes it.
LASTING = re.compile(r".*\.lock")


class Traces:
    """Follows a run's processes by their mark; a file of shared memory that one of them has open, or that bears its
    number, is the run's."""

    def __init__(self, mark: str) -> None:
        self._mark = f"{MARK}={mark}"
        self._numbers: set[int] = set()
        self._others: set[int] = set()
        self._shared: set[str] = set()

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """Look again and again meanwhile."""
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
        """Learn which processes are of this run now, and what shared memory they use."""
        numbers = process_numbers()
        self._others &= numbers
        for number in numbers - self._others:
            if number not in self._numbers and not bears(number, self._mark):
                self._others.add(number)
                continue
            self._numbers.add(number)
            self._shared |= shared_memory_of(number)

    def left_in_memory(self) -> list[str]:
        """Files of shared memory that are of this run and still there."""
        self.look()
        with contextlib.suppress(OSError):
            return sorted(name for name in os.listdir(SHARED_MEMORY) if self._is_ours(name))
        return []

    def _is_ours(self, name: str) -> bool:
        return name in self._shared or any(int(part) in self._numbers for part in re.findall(r"\d{2,9}", name))


def process_numbers() -> set[int]:
    """Of all processes."""
    try:
        return {int(name) for name in os.listdir(PROCESSES) if name.isdigit()}
    except OSError:
        return set()


def bears(number: int, mark: str) -> bool:
    """Whether a process has `mark`, NAME=VALUE, in its environment; not if it has ended and waits for its parent."""
    try:
        return mark.encode() in (PROCESSES / str(number) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def shared_memory_of(number: int) -> set[str]:
    """Names of the files of shared memory that a process has open."""
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
    """Other processes with `mark`, NAME=VALUE, that have not ended after so long."""
    deadline = time.monotonic() + seconds
    while True:
        found = sorted(number for number in process_numbers() - {os.getpid()} if bears(number, mark))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def hidden_below(folder: Path) -> list[str]:
    """What programs of ours name with a dot while they work, and nobody needs afterwards."""
    # Not `rglob`: a folder that goes while it is looked through would be an error.
    found = [Path(place, name) for place, folders, files in os.walk(folder) for name in (*folders, *files)]
    hidden = [path for path in found if path.name.startswith(".") and not LASTING.fullmatch(path.name)]
    return sorted(str(path.relative_to(folder)) for path in hidden)
