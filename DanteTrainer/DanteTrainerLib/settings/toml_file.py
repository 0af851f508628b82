"""Read TOML with `tomllib`, or `tomli` before Python 3.11."""

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
    """Parse TOML text.

    Raises:
        ValueError: not valid TOML, or a number with thousands of digits.
        RecursionError: nested too deeply.
    """
    return tomllib.loads(text)


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a TOML file into plain values.

    Args:
        what: what the file is, for the error message, e.g. "study".

    Raises:
        ConfigError: the file cannot be read, or is not TOML in UTF-8.
    """
    try:
        return parse_toml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"the {what} '{path}' cannot be read: {reason(error)}.") from None
    except (ValueError, RecursionError) as error:  # not TOML, or not UTF-8
        raise ConfigError(f"'{path}' is not valid TOML: {error}.") from None
