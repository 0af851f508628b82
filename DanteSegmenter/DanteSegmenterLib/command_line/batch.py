"""`batch`: a folder of many patients -> a segmentation each, a summary and a picture."""

from __future__ import annotations

import argparse
import os

from ..batch import Options, Outcome, run_batch, to_do
from ..cases.case_list import find_cases
from ..child_process import when_parent_ends
from ..errors import ConfigError, InputError
from ..guard.plain_text import one_line
from ..model_folder.choosing import check_can_prepare
from ..model_folder.read_write import read_spec
from ..options import SegmentOptions
from ..program import STOPPED, StopRequest, say
from .segment import host_of


def batch(given: argparse.Namespace, stop: StopRequest) -> None:
    """Show what would run, and run it.

    Raises:
        InputError: a case failed, after all others were tried.
        ConfigError: two places to compute.
    """
    if given.with_parent:
        when_parent_ends(lambda: os._exit(STOPPED))
    host = host_of(given)
    if host is not None and given.cluster:
        raise ConfigError("--host and --cluster exclude each other: choose one.")
    cases, spec = find_cases(given.folder), read_spec(given.model)
    if given.prepare:
        check_can_prepare(spec)
    options = Options(given.device, SegmentOptions(given.mirror, given.prepare, limited=given.limited), host)
    for case, obstacle in to_do(cases, spec, given.out, options):
        say(f"  {one_line(case.name):<30} {', '.join(case.images):<24} {obstacle or 'will run'}")
    if given.list:
        return
    stop.said = "Stopped; what is finished stays. The same command goes on with the rest."
    outcomes = run_batch(given.model, cases, given.out, options, given.cluster, show, stop)
    states = [outcome.state for outcome in outcomes]
    say(", ".join(f"{states.count(state)} {state}" for state in ("done", "skipped", "failed")))
    say(f"wrote {given.out}")
    if "failed" in states:
        raise InputError(f"{states.count('failed')} of {len(states)} cases failed; summary.csv says why.")


def show(outcome: Outcome) -> None:
    """One line for a case that has ended."""
    found = outcome.report.volumes_ml if outcome.report is not None and outcome.state == "done" else {}
    volumes = ", ".join(f"{region} {ml:.1f} mL" for region, ml in found.items())
    say(f"  {one_line(outcome.case):<30} {outcome.state:<8} {volumes or outcome.message}")
