"""Inputs of `segment`: files by modality, or the series of a DICOM study."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..cases.case import ImageSource
from ..dicom.case_list import sources_of
from ..dicom.choosing import choose_series, table
from ..dicom.study_scan import choose_study, scan
from ..dicom.write_seg import DICOM_ENDING
from ..errors import InputError
from ..model_folder.spec import ModelSpec
from ..program import say
from .outputs import check_outputs, same_file, write_json


def check_inputs(given: argparse.Namespace) -> None:
    """Refuse contradictory arguments.

    Raises:
        InputError: neither files nor a study, both, or an option that is only for studies.
    """
    if bool(given.input) == (given.dicom is not None):
        raise InputError("either --input MODALITY=FILE, one a modality, or --dicom FOLDER is needed.")
    if given.input and (given.series or given.study or given.list):
        raise InputError("--series, --study and --list are for --dicom FOLDER.")


def check_output(given: argparse.Namespace) -> None:
    """Check the output file.

    Raises:
        InputError: there is none, or it is DICOM while the images are not.
    """
    if given.output is None:
        raise InputError("--output FILE is needed.")
    if given.input and given.output.name.endswith(DICOM_ENDING):
        raise InputError(
            f"'{given.output.name}': a DICOM segmentation refers to the DICOM images that it lies on, so it is written "
            "with --dicom FOLDER alone. Choose .seg.nrrd or .nii.gz."
        )


def given_sources(given: argparse.Namespace, spec: ModelSpec) -> tuple[dict[str, ImageSource], list[Path]]:
    """The inputs by modality id, and the files that no output may replace: the inputs, or all files of the studies.

    Raises:
        InputError: a file or series is invalid, missing, or ambiguous.
    """
    if given.dicom is None:
        paths = input_paths(given.input, spec)
        return {modality: ImageSource(path) for modality, path in paths.items()}, list(paths.values())
    found = scan(given.dicom)
    rows = table(choose_study(found, given.study))
    chosen = choose_series(rows, spec, asked_series(given.series))
    files = [file for study in found.studies for series in study.series for file in series.files]
    return sources_of(chosen, found.notes), files


def input_paths(given: list[str], spec: ModelSpec) -> dict[str, Path]:
    """Paths by modality id from `MODALITY=FILE` pairs.

    Raises:
        InputError: not such a pair, an unknown or repeated modality, or one file for two of them.
    """
    known = [modality.id for modality in spec.modalities]
    paths: dict[str, Path] = {}
    for pair in given:
        modality, equals, path = pair.partition("=")
        if not equals or not path or modality not in known:
            raise InputError(f"--input {pair}: MODALITY=FILE is needed, MODALITY one of {', '.join(known)}.")
        if modality in paths:
            raise InputError(f"--input {modality} is given twice.")
        paths[modality] = Path(path).expanduser()
        twin = next((other for other in paths if other != modality and same_file(paths[other], paths[modality])), None)
        if twin is not None:
            raise InputError(f"'{path}' is given as {twin} and as {modality}; each needs a volume of its own.")
    return paths


def asked_series(given: list[str]) -> dict[str, str]:
    """Series by modality id from `MODALITY=NUMBER-or-UID` pairs.

    Raises:
        InputError: not such a pair, or a repeated modality.
    """
    asked: dict[str, str] = {}
    for pair in given:
        modality, equals, which = pair.partition("=")
        if not equals or not which:
            raise InputError(f"--series {pair}: MODALITY=NUMBER, MODALITY=UID or MODALITY=none is needed.")
        if modality in asked:
            raise InputError(f"--series {modality} is given twice.")
        asked[modality] = which
    return asked


def show_series(given: argparse.Namespace, spec: ModelSpec) -> None:
    """`--list`: print what each series was guessed to be and why; also as JSON to the file of `--report`.

    Raises:
        InputError: there is no study, or several.
        ResourceError: the file cannot be written.
    """
    found = scan(given.dicom)
    study = choose_study(found, given.study)
    rows = table(study)
    if given.report is not None:
        files = [file for series in study.series for file in series.files]
        check_outputs([(given.report, (".json",))], files)
        write_json(given.report, {"study": study.uid, "series": [row.plain() for row in rows]})
    for note in found.notes:
        say(f"note: {note}")
    say(f"study {study.label}; {spec.name} reads {', '.join(modality.id for modality in spec.modalities)}")
    for row in rows:
        say(row.line)
