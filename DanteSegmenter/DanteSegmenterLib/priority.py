"""Run one of our modules with low priority: `python -m DanteSegmenterLib.priority MODULE ARGUMENTS...`.

Slicer's GUI computes and draws too, and must never wait for our processes. Without other load this costs nothing. The
process leads its own group within its parent's session, because Linux applies niceness only within a session.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import subprocess
import sys

NICENESS = 10


def low_priority_arguments() -> list[str]:
    """Arguments between interpreter and module: `[interpreter(), *low_priority_arguments(), module]`."""
    return ["-m", "DanteSegmenterLib.priority"]


def windows_flags() -> int:
    """`Popen` flags on Windows, which has no nice: no console window, and below-normal priority."""
    return subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS  # type: ignore[attr-defined]  # Windows


if __name__ == "__main__":
    # Before numpy, whose threads start on import and keep their initial priority.
    with contextlib.suppress(AttributeError, OSError):  # Windows has no nice and no process groups
        os.nice(NICENESS)
        os.setpgid(0, 0)
    # Python 3.10 does not support PYTHONSAFEPATH: the current folder would come first.
    if sys.path and sys.path[0] in ("", os.getcwd()) and sys.version_info < (3, 11):
        del sys.path[0]
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
