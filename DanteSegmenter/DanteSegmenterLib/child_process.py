"""How processes of ours are started: with which Python, in which environment, behind whose windows."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TypedDict

from .priority import windows_flags


def interpreter() -> str:
    """Slicer's Python launcher, which sets up its environment; outside Slicer the running interpreter."""
    return shutil.which("PythonSlicer") or sys.executable


def child_environment(*more: Path) -> dict[str, str]:
    """In which a child process finds this library and those in the folders `more`, and writes UTF-8."""
    here = [*map(str, more), str(Path(__file__).resolve().parents[1])]
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*here, *known]), "PYTHONIOENCODING": "utf-8"}


class WindowOptions(TypedDict, total=False):
    """Of `Popen`, on Windows."""

    creationflags: int


def window_options() -> WindowOptions:
    """For `Popen`: no console window on Windows, and less right to the processor than the window that asks has."""
    return {"creationflags": windows_flags()} if os.name == "nt" else {}
