"""Commands `study` and `list`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .common import set_stop_message

if TYPE_CHECKING:
    from ..methods import Method


def study(options: argparse.Namespace) -> None:
    from ..settings.loading import study_path
    from ..study.plan import plan
    from ..study.reporting.report import write_report
    from ..study.run import run_study
    from ..study.study_file import read_study

    set_stop_message(options, "Stopped; run the study again to continue.")
    study = read_study(study_path(options.study)).sized(options.size)
    study = study.changed(options.set, options.seeds)
    runs, split = plan(study, options.out), options.split or study.split
    if not options.report:
        stop = options.stop or (lambda: False)
        run_study(study, options.data, options.out, split, options.device, options.quiet, stop)
    print(write_report(study, runs, split, options.out))


def listing(_: argparse.Namespace) -> None:
    from ..methods import METHODS
    from ..settings.loading import list_experiments, list_studies
    from ..study.study_file import read_study

    _print("methods", {name: _describe(method) for name, method in METHODS.items()})
    studies = {}
    for name, path in list_studies().items():
        sizes = ", ".join(read_study(path).size)
        studies[name] = _first_line(path) + (f" (--size {sizes})" if sizes else "")
    _print("studies", studies)
    _print("experiments", {name: _first_line(path) for name, path in list_experiments().items()})


def _print(title: str, descriptions: dict[str, str]) -> None:
    width = max(map(len, descriptions))
    print(f"{title}:")
    for name, description in descriptions.items():
        print(f"  {name:<{width}}  {description}")


def _first_line(path: Path) -> str:
    """The comment in a TOML file's first line."""
    return path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


def _describe(method: Method) -> str:
    """Description of a method: the first paragraph of its module, or of its function if the module has several."""
    whole_file = method.__name__ == "stages"
    text = sys.modules[method.__module__].__doc__ if whole_file else method.__doc__
    return " ".join((text or "").strip().split("\n\n")[0].split())
