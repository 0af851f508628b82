"""Errors with messages for the user.

Everything that this project refuses deliberately raises one of these. The message says what was found, what is
expected and what to do, and names the volume, file or setting. Command lines print it without a traceback and the GUI
shows it unchanged. Any other exception is a bug.
"""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path

from .guard.plain_text import LONG, one_line


class DanteError(Exception):
    """Base class of errors that are explained to the user.

    The message is reduced to one printable line, since it contains names and values from outside.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message, LONG))


class InputError(DanteError):
    """A volume, image file or dataset folder cannot be used as it is."""


class ModelError(DanteError):
    """A model folder is incomplete, altered, too new or does not fit the request."""


class ConfigError(DanteError):
    """A setting is unknown, of the wrong type or contradicts another."""


class ResourceError(DanteError):
    """The machine lacks something: disk space, memory, a device."""


class Cancelled(DanteError):
    """The user stopped the operation; nothing was written."""


def lacks_memory(error: BaseException) -> bool:
    """Whether memory was refused to Python, or to a library while loading or computing."""
    if isinstance(error, ImportError):
        return "failed to map segment" in str(error) or "allocate memory" in str(error)
    if isinstance(error, RuntimeError):
        return any(word in str(error).lower() for word in _MEMORY_WORDS)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


# Messages of torch where others raise MemoryError.
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "unable to allocate")
_NO_RIGHT = "Ask for the right to it, or choose another place."
_TO_DO = {
    errno.ENOSPC: "Make room and run it again.",
    errno.EDQUOT: "Make room and run it again.",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: "Choose another place.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def sentence_of(error: BaseException) -> str:
    """Any error as one line: the system's message, or what went wrong and where in the code."""
    text = _without_traceback(error)
    if isinstance(error, DanteError):
        return text
    if lacks_memory(error):
        return "there is not enough memory. Close what is not needed, or take a smaller volume."
    if isinstance(error, RecursionError):
        return "something is nested too deeply to be read."
    if isinstance(error, OSError) and text != str(error):  # the system's error number comes first
        return one_line(text.partition("] ")[2] or text, LONG)
    if isinstance(error, OSError) and (error.strerror or error.errno is None):
        if error.filename is None:
            return one_line(f"{reason(error)}: a file or pipe.", LONG)
        return one_line(f"{reason(error)}: '{error.filename}'. {_TO_DO.get(error.errno or 0, '')}", LONG)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return one_line(f"{type(error).__name__}: {text}{where}", LONG)


def reason(error: Exception) -> str:
    """The reason for use within a sentence, without file names; the last line of ITK's long messages."""
    if isinstance(error, OSError):
        if error.errno is None and "requested and" in str(error):  # NumPy reports missing bytes on a full disk
            return os.strerror(errno.ENOSPC)
        if error.strerror:
            return error.strerror
    lines = str(error).strip().splitlines()
    return one_line(lines[-1]) if lines else type(error).__name__


def _without_traceback(error: BaseException) -> str:
    """The message; if it is another process's whole traceback, only its end."""
    text = str(error)
    return text.rpartition(f"{type(error).__name__}: ")[2] if "Traceback (most recent call" in text else text
