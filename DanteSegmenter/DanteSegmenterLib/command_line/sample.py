"""Command `sample`: write synthetic patients as case folders."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import InputError, ResourceError
from ..files.images import read_volume, write_volume
from ..program import StopRequest, say
from ..volume import Volume

# Minimum and maximum.
SPACINGS_MM = {"brain": (0.5, 8.0), "chest": (0.2, 30.0)}


def sample(given: argparse.Namespace, stop: StopRequest) -> None:
    """Write one patient, or a dataset of many."""
    if not given.folder.parent.is_dir():
        raise ResourceError(f"the folder '{given.folder.parent}' does not exist. Create it or choose another.")
    if given.folder.exists() and not given.folder.is_dir():
        raise ResourceError(f"'{given.folder}' is a file; a folder is needed. Choose another.")
    _check(given)
    given.folder.mkdir(exist_ok=True)
    if given.cases is None:
        _write_patient(given.folder, given.seed, given)
        return
    for seed in range(given.seed, given.seed + given.cases):
        _write_patient(given.folder / f"Synthetic{given.kind.capitalize()}{seed:03d}", seed, given)


def _check(given: argparse.Namespace) -> None:
    """Check the arguments.

    Raises:
        InputError: a number is out of range.
    """
    brain = given.kind == "brain"
    low, high = SPACINGS_MM[given.kind]
    spacing = given.spacing_mm or [low]
    if len(spacing) not in (1, 3) or not all(low <= mm <= high for mm in spacing) or (brain and len(set(spacing)) > 1):
        raise InputError(
            f"--spacing-mm {spacing}: one number, for a chest also three (K, J, I), of {low} to {high} mm."
        )
    if given.shape and (brain or min(given.shape) < 2):
        raise InputError("--shape takes three numbers of at least 2, and is for --kind chest.")
    if given.seed < 0 or (given.cases is not None and given.cases < 1):
        raise InputError("--seed takes a number from 0 on, --cases one from 1 on.")


def _check_no_foreign_file(volumes: Mapping[Path, Volume]) -> None:
    """Check that no foreign file would be overwritten.

    Raises:
        ResourceError: an existing file differs from the one to be written: a real scan, or another patient.
    """
    for path, volume in volumes.items():
        if path.exists():
            there = read_volume(path)
            if not (there.same_grid(volume) and np.array_equal(there.array, volume.array)):
                raise ResourceError(f"'{path}' exists and is not of this patient. Choose another folder.")


def _write_patient(folder: Path, seed: int, given: argparse.Namespace) -> None:
    """Write a case folder with names its readers know: BraTS for the brain, plain names for paired chest CT."""
    from ..synthetic.sample import brain_mr, chest_ct

    spacing = given.spacing_mm or ([1.0] if given.kind == "brain" else [2.0, 0.7, 0.7])
    if given.kind == "brain":
        patient, prefix, mask = brain_mr(seed, spacing[0]), f"{folder.resolve().name}_", "seg"
    else:
        shape = tuple(given.shape) if given.shape else None
        patient, prefix, mask = chest_ct(seed, tuple(spacing * (3 // len(spacing))), shape), "", "label"
    volumes = {folder / f"{prefix}{name}.nii.gz": v for name, v in {**patient.volumes, mask: patient.labels}.items()}
    _check_no_foreign_file(volumes)
    folder.mkdir(exist_ok=True)
    for path, volume in volumes.items():
        write_volume(path, volume)
    say(f"wrote {patient.name} to {folder}")
