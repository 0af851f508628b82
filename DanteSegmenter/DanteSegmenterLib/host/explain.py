"""Explain failures of a remote host in one sentence with a remedy, from the output of ssh and Python."""

from __future__ import annotations

import re

from ..guard.plain_text import LONG, one_line
from .address import Host

SSH_FAILED = 255  # ssh's own exit code; any other is from the remote command
NOT_FOUND, NOT_EXECUTABLE = 127, 126
_SHOWN = 300  # maximum number of characters quoted
_LOST = (
    "closed by remote host",
    "Connection reset",
    "Broken pipe",
    "Timeout, server",
    "Connection closed by",
    "timed out",
)


def explain_end(host: Host, code: int, said: str, met: bool) -> str:
    """Why the connection to a remote process ended.

    Args:
        code: ssh's exit code.
        said: last part of standard error.
        met: whether our process had answered.
    """
    if code == SSH_FAILED and not met:
        return _not_reached(host, said)
    if code == SSH_FAILED and any(words in said for words in _LOST):
        return f"The connection to '{host.name}' was lost; nothing was changed. The next run connects anew."
    if code == SSH_FAILED or code < 0:
        return (
            f"The computing process on '{host.name}' ended unexpectedly: it was killed, as a system does that runs out "
            "of memory, or the connection was cut. The next run starts another."
        )
    return _not_started(host, code, said)


def _not_reached(host: Host, said: str) -> str:
    name, by_hand = host.name, f"'{host.command_to_try}' in a terminal"
    if "IDENTIFICATION HAS CHANGED" in said:
        return f"The key of '{name}' is not the one that this computer knows: ask who runs it before you connect again."
    if "Host key verification failed" in said or "host key is known" in said:
        return f"The key of '{name}' is not known here: run {by_hand} once, compare the key and accept it."
    if "Permission denied (" in said or "Too many authentication failures" in said:
        return f"'{name}' did not let you in: {by_hand} must work without a password (a key, or an agent)."
    if "Could not resolve hostname" in said:
        return f"There is no computer '{name}': check the name, or your ~/.ssh/config."
    if re.search(r"connect to host|timed out|refused|unreachable|kex_exchange|banner exchange", said):
        return f"'{name}' cannot be reached: is it on, in this network (VPN), and is the port right? {_words(said)}"
    return f"'{name}' cannot be reached by ssh: see what {by_hand} says. {_words(said)}"


def _not_started(host: Host, code: int, said: str) -> str:
    name, python = host.name, " ".join(host.python)
    missing = re.findall(r"No module named '?([\w.]+)", said)
    if missing and missing[-1] == "DanteSegmenterLib":
        return (
            f"'{python}' on '{name}' has no slicer-dante: install it there (pip install . in a checkout), "
            "or name the Python there that has it."
        )
    if "unrecognized arguments" in said or (missing and missing[-1].startswith("DanteSegmenterLib.")):
        return f"slicer-dante on '{name}' is older than this one: update it there."
    if missing:
        return f"'{python}' on '{name}' lacks the package {missing[-1]}: install slicer-dante there with what it needs."
    if code in (NOT_FOUND, NOT_EXECUTABLE):
        return f"There is no '{python}' that runs on '{name}': name the Python there that has slicer-dante."
    return f"The computing process on '{name}' ended unexpectedly (exit code {code}). {_words(said)}"


def foreign_output(host: Host, heard: bytes) -> str:
    """The host sent too much output before any message of ours."""
    return (
        f"'{host.name}' sends something that is not DANTE's: '{_shown(heard)}'. What the account's shell prints when "
        "it starts must be short, and must end."
    )


def no_answer(host: Host, seconds: float, heard: bytes) -> str:
    """The connection may be established, but there was no message of ours in time."""
    words = f" It said: '{_shown(heard)}'." if heard.strip() else ""
    return (
        f"'{host.name}' did not answer within {seconds:.0f} s.{words} See whether '{host.command_to_try} "
        f"{' '.join(host.python)} --version' answers in a terminal."
    )


def other_version(host: Host, theirs: int, ours: int) -> str:
    """Both sides are DANTE, but with incompatible protocol versions."""
    older = "there" if theirs < ours else "here"
    return (
        f"slicer-dante on '{host.name}' speaks version {theirs} of the protocol, this one version {ours}: "
        f"update it {older}."
    )


def _words(said: str) -> str:
    lines = said.strip().splitlines()
    return f"Its last words: {one_line(lines[-1], _SHOWN)}" if lines else ""


def _shown(heard: bytes) -> str:
    return one_line(heard[-LONG:].decode("utf-8", "replace"), _SHOWN)
