"""Stand-in for slicer.packaging of recent Slicer versions: asks, installs, and reports refusals in its own words."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from packaging.requirements import Requirement


def pip_check(requirement: str) -> bool:
    """Whether a package is installed at the required version. Not implemented: extras, markers."""
    wanted = Requirement(requirement)
    try:
        return importlib.metadata.version(wanted.name) in wanted.specifier
    except importlib.metadata.PackageNotFoundError:
        return False


def pip_ensure(
    requirements: list[str],
    constraints: str | Path | None = None,
    requester: str | None = None,
) -> None:
    """Ask once for all missing packages, then install them. Not implemented: progress, restart, `skip_packages`.

    Raises:
        RuntimeError: the user declined; the text has no full stop. CalledProcessError: pip failed.
    """
    import slicer

    missing = [requirement for requirement in requirements if not pip_check(requirement)]
    if not missing or slicer.app.testingEnabled():
        return
    count, one = len(missing), len(missing) == 1
    question = (
        f"{count} Python package{'' if one else 's'} need{'s' if one else ''} to be installed.\n\n"
        "This will modify Slicer's Python environment. Continue?"
    )
    title = f"{requester} - Install Python Packages" if requester else "Install Python Packages"
    if not slicer.util.confirmOkCancelDisplay(question, title, detailedText="\n".join(f"- {each}" for each in missing)):
        raise RuntimeError("User declined package installation")
    held = ["--constraint", str(constraints)] if constraints else []
    slicer.util.pip_install([*held, *missing])
