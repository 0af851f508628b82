"""Checks which packages are installed, without importing them."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from pathlib import Path

TORCH = "torch>=2.5"


def missing(requirements: Sequence[str]) -> list[str]:
    """The requirements ("name" or "name>=1.2") that are not installed or too old."""
    return [requirement for requirement in requirements if not is_installed(requirement)]


def read_requirements(path: Path) -> list[str]:
    """The lines of a requirements file, without comments."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def is_installed(requirement: str) -> bool:
    """Whether a package is installed at the required version."""
    name, _, wanted = requirement.partition(">=")
    version = installed_version(name)
    return version is not None and _numbers(version) >= _numbers(wanted)


def installed_version(name: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def constraints(names: Sequence[str]) -> str:
    """Text of a constraints file that pins packages to their installed versions, so that pip leaves Slicer's alone."""
    held = [(name, installed_version(name)) for name in names]
    return "".join(f"{name}=={version}\n" for name, version in held if version)


def _numbers(version: str) -> list[int]:
    """E.g. [2, 13, 0] for "2.13.0+cpu"."""
    return [int(number) for number in re.findall(r"\d+", version.partition("+")[0])]
