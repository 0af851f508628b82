"""Files that another program has open for a moment.

Windows neither replaces a file that somebody reads, be it a virus scanner, an indexer or our own window that looks at
what a process writes, nor opens one at the moment in which it is replaced (ERROR_ACCESS_DENIED,
ERROR_SHARING_VIOLATION). Other systems do both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

BUSY_CODES = (5, 32)  # of Windows, as above
BUSY_SECONDS, AGAIN_SECONDS = 1.0, 0.02  # how long it is tried, and how often

Said = TypeVar("Said")


def move(source: Path, target: Path) -> None:
    """`os.replace`, and again for a moment where a file is busy.

    Raises:
        OSError: it cannot be moved.
    """
    patiently(lambda: os.replace(source, target))


def patiently(action: Callable[[], Said]) -> Said:
    """What `action` returns; it is done again for a moment where a file is busy.

    Raises:
        OSError: the file stays busy, or something else is wrong with it.
    """
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return action()
        except OSError as error:
            if getattr(error, "winerror", None) not in BUSY_CODES or time.monotonic() > end:
                raise
        time.sleep(AGAIN_SECONDS)
