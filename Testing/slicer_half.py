"""Access to every name defined by the module file or a file of DanteSlicerLib."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class SlicerHalf:
    """`half.resultReference` looks the function up in whichever file defines it, because Reload replaces all files.

    To patch a name in a test, name the file that uses it: `monkeypatch.setattr("DanteSlicerLib.logic.name", ...)`.
    """

    def __getattr__(self, name: str) -> Any:
        for module in files():
            value = vars(module).get(name)
            if name in vars(module) and getattr(value, "__module__", module.__name__) == module.__name__:
                return value
        raise AttributeError(f"no file of the Slicer half defines '{name}'")


def files() -> list[ModuleType]:
    """The loaded module file and files of DanteSlicerLib."""
    names = [name for name in sys.modules if name.partition(".")[0] in ("DanteSegmenter", "DanteSlicerLib")]
    return [sys.modules[name] for name in names]
