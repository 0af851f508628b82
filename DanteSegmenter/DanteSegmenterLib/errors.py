"""Errors whose message is meant for a user's eyes.

Everything this project refuses on purpose is refused with one of these. The message says what was got, what is wanted
and what to do, and names the volume, file or setting; the command lines print it without a traceback and the window
shows it as it stands. Any other exception is a defect of ours.
"""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from .guard.plain_text import LONG, one_line


class DanteError(Exception):
    """Base of every error that is explained to the user.

    The message is one line that prints: it names files, volumes and values as others wrote them.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message, LONG))


class InputError(DanteError):
    """A volume, image file or dataset folder cannot be used as it is."""


class ModelError(DanteError):
    """A model folder is incomplete, altered, too new or does not fit what was asked of it."""


class ConfigError(DanteError):
    """A setting is unknown, of the wrong type or contradicts another."""


class ResourceError(DanteError):
    """The machine ran out of something: disk space, memory, a device."""


class Cancelled(DanteError):
    """The user asked to stop; nothing was written."""


def lacks_memory(error: BaseException) -> bool:
    """Whether the system refused memory: to Python, or to a library that was to be loaded."""
    if isinstance(error, ImportError):
        return "failed to map segment" in str(error) or "allocate memory" in str(error)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def sentence_of(error: BaseException) -> str:
    """Any error in one line: what the system says, or what went wrong and where in the code."""
    if isinstance(error, DanteError):
        return str(error)
    if lacks_memory(error):
        return "there is not enough memory. Close what is not needed, or take a smaller volume."
    if isinstance(error, OSError) and error.strerror:
        name = f" '{error.filename}'" if error.filename is not None else ""
        return one_line(f"{error.strerror}:{name or ' a file or pipe'}.", LONG)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return one_line(f"{type(error).__name__}: {error}{where}", LONG)
