"""Retries on files that another program has open for a moment.

Windows neither replaces a file that is being read, by a virus scanner, an indexer or our own window polling a
process, nor opens one while it is being replaced (ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION). Other systems do
both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

BUSY_CODES = (5, 32)  # Windows error codes, see above
BUSY_SECONDS, AGAIN_SECONDS = 1.0, 0.02  # duration of the retries, and their interval

Returned = TypeVar("Returned")


def move(source: Path, target: Path) -> None:
    """`os.replace`, retried for a moment if a file is busy.

    Raises:
        OSError: it cannot be moved.
    """
    retry_while_busy(lambda: os.replace(source, target))


def retry_while_busy(action: Callable[[], Returned]) -> Returned:
    """Return the result of `action`, which is retried for a moment if a file is busy.

    Raises:
        OSError: the file stays busy, or another error occurred.
    """
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return action()
        except OSError as error:
            if getattr(error, "winerror", None) not in BUSY_CODES or time.monotonic() > end:
                raise
        time.sleep(AGAIN_SECONDS)
