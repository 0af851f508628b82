"""TOML, by Python's own parser or, before Python 3.11, by the package that became it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from DanteSegmenterLib.errors import ConfigError, reason

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse_toml(text: str) -> dict[str, Any]:
    """
    Raises:
        ValueError: not TOML, or a number with thousands of digits.
        RecursionError: nested too deeply.
    """
    return tomllib.loads(text)


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The plain values of a file.

    Args:
        what: it is, for the error: "study".

    Raises:
        ConfigError: it cannot be read, or is not TOML in UTF-8.
    """
    try:
        return parse_toml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"the {what} '{path}' cannot be read: {reason(error)}.") from None
    except (ValueError, RecursionError) as error:  # not TOML, or not UTF-8
        raise ConfigError(f"'{path}' is not valid TOML: {error}.") from None
