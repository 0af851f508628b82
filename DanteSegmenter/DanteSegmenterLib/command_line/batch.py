"""Command `batch`: segment a folder of many patients, with a summary and a contact sheet."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..batch import Options, Outcome, run_batch, to_do
from ..cases.case import Case
from ..cases.case_list import cases_below, find_cases
from ..child_process import when_parent_ends
from ..dicom.case_list import dicom_cases, no_case
from ..errors import ConfigError, InputError, ResourceError
from ..guard.plain_text import one_line
from ..model_folder.choosing import check_can_prepare
from ..model_folder.read_write import read_spec
from ..model_folder.spec import ModelSpec
from ..options import SegmentOptions
from ..program import STOPPED, StopRequest, say
from .segment import host_of, tell_use


def batch(given: argparse.Namespace, stop: StopRequest) -> None:
    """Show what would run, then run it.

    Raises:
        InputError: a case failed; raised after all others were tried.
        ConfigError: both `--host` and `--cluster` are given.
    """
    if given.with_parent:
        when_parent_ends(lambda: os._exit(STOPPED))
    host = host_of(given)
    if host is not None and given.cluster:
        raise ConfigError("--host and --cluster exclude each other: choose one.")
    spec = read_spec(given.model)
    cases = all_cases(given.folder, spec)
    if given.prepare:
        check_can_prepare(spec)
    how = SegmentOptions(given.mirror, given.prepare, limited=given.limited)
    options = Options(given.device, how, host, given.dicom_seg)
    for case, obstacle in to_do(cases, spec, given.out, options):
        say(f"  {one_line(case.name):<30} {', '.join(case.images):<24} {obstacle or 'will run'}")
    if given.list:
        return
    tell_use(spec)
    stop.message = "Stopped; what is finished stays. The same command goes on with the rest."
    outcomes = run_batch(given.model, cases, given.out, options, given.cluster, show, stop)
    states = [outcome.state for outcome in outcomes]
    say(", ".join(f"{states.count(state)} {state}" for state in ("done", "skipped", "failed")))
    say(f"wrote {given.out}")
    if "failed" in states:
        raise InputError(f"{states.count('failed')} of {len(states)} cases failed; summary.csv says why.")


def all_cases(folder: Path, spec: ModelSpec) -> list[Case]:
    """Folders of image files and DICOM studies; anything below a folder of image files belongs to the same patient.

    If DICOM files cannot be searched for or read while there are other cases, that is reported as a case with a
    `problem`.

    Raises:
        InputError: there is no case, the folder cannot be read, or it contains far too many files and nothing else.
        ResourceError: there are only DICOM files, and pydicom is not installed.
    """
    cases = cases_below(folder, spec.modalities)
    taken = {source.path.parent for case in cases for source in case.images.values()}
    try:
        cases += dicom_cases(folder, spec, taken)
    except (InputError, ResourceError) as error:
        if not cases:
            raise
        cases.append(no_case(str(error)))
    return cases or find_cases(folder, spec.modalities)


def show(outcome: Outcome) -> None:
    """Print one line for a case that has ended."""
    found = outcome.report.volumes_ml if outcome.report is not None and outcome.state == "done" else {}
    volumes = ", ".join(f"{region} {ml:.1f} mL" for region, ml in found.items())
    say(f"  {one_line(outcome.case):<30} {outcome.state:<8} {volumes or outcome.message}")
