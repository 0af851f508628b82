"""Parse and validate the address of a remote host before any program receives it.

A leading dash would be an option to ssh (`-oProxyCommand=...` runs any command), so an address may only consist of
letters, digits and a few other characters.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from ..errors import ConfigError
from ..guard.plain_text import LONG, one_line

PYTHON_THERE = "python3"
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?"
_HOST = re.compile(
    rf"ssh:(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]{{0,63}})@)?(?:(?P<name>{_NAME})|\[(?P<six>[0-9A-Fa-f:.]{{2,45}})\])"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Host:
    """A remote host.

    Attributes:
        name: its address, or its name in the user's ~/.ssh/config.
        user: account name; empty for ssh's default.
        port: None for ssh's default.
        python: words of the command that starts Python there.
    """

    name: str
    user: str = ""
    port: int | None = None
    python: tuple[str, ...] = (PYTHON_THERE,)

    @property
    def target(self) -> str:
        """Destination argument for ssh."""
        return f"{self.user}@{self.name}" if self.user else self.name

    @property
    def command_to_try(self) -> str:
        """Command with which a user can test the connection."""
        return f"ssh {'' if self.port is None else f'-p {self.port} '}{self.target}"


def parse_host(text: str, python: str = "") -> Host:
    """Parse an address: ssh:NAME, ssh:USER@NAME or ssh:USER@NAME:PORT; IPv6 in brackets.

    Args:
        python: shell command that starts Python there, e.g. "~/dante/bin/python"; "python3" if empty.

    Raises:
        ConfigError: the address is invalid.
    """
    found = _HOST.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or port == 0 or (port or 0) > 65535:
        raise ConfigError(
            f"'{one_line(text)}' is no computer: ssh:USER@HOST, ssh:USER@HOST:PORT or ssh:NAME of your ~/.ssh/config "
            "is needed."
        )
    return Host(found["name"] or found["six"], found["user"] or "", port, _python_words(python))


def _python_words(text: str) -> tuple[str, ...]:
    """Split the command that starts Python.

    Raises:
        ConfigError: it is not a valid command.
    """
    try:
        words = tuple(shlex.split(text)) or (PYTHON_THERE,)
    except ValueError:  # unbalanced quotation mark
        words = ("-",)
    if not text.isprintable() or len(text) > LONG or words[0].startswith("-") or not words[0] or "=" in words[0]:
        raise ConfigError(f"'{one_line(text)}' starts no Python there; a command such as ~/dante/bin/python is needed.")
    return words
