"""Run a module of ours behind the windows of others: `python -m DanteSegmenterLib.priority MODULE ARGUMENTS...`.

Slicer's window computes and draws too, and must never wait for a process of ours: the window gets what it wants of the
processor. While nothing else is at work this costs nothing. The process leads a group of its own, in its parent's
session: Linux weighs niceness within a session only.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import subprocess
import sys

NICENESS = 10


def standing_back() -> list[str]:
    """What follows the interpreter in a command, before the module: `[interpreter(), *standing_back(), module]`."""
    return ["-m", "DanteSegmenterLib.priority"]


def windows_flags() -> int:
    """For `Popen` on Windows, which has no nice: no console window, and the priority below that of others."""
    return subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS  # type: ignore[attr-defined]  # Windows


if __name__ == "__main__":
    # Before numpy: its threads start when it is imported, and keep the priority they were born with.
    with contextlib.suppress(AttributeError, OSError):  # Windows has no nice and no groups
        os.nice(NICENESS)
        os.setpgid(0, 0)
    # Python 3.10 knows no PYTHONSAFEPATH: the current folder would come before everything else.
    if sys.path and sys.path[0] in ("", os.getcwd()) and sys.version_info < (3, 11):
        del sys.path[0]
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
