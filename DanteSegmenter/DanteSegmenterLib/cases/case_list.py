"""A folder of many patients -> their cases, in any layout that is known. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError
from .case_folder import Case, is_case_folder, read_case_folder
from .dataset_json import read_dataset_json

# Deep enough for <challenge>/<grade>/<case>.
MAX_DEPTH = 3


def find_cases(folder: Path) -> list[Case]:
    """All cases below a folder: case folders at any depth down to the third, MSD Task01, or nnU-Net raw data.

    Raises:
        InputError: there is no such folder, or no case in it.
    """
    if not folder.is_dir():
        raise InputError(f"the dataset folder '{folder}' does not exist. Check the path.")
    cases = read_dataset_json(folder) if (folder / "dataset.json").is_file() else list(_case_folders(folder))
    if not cases:
        raise InputError(
            f"'{folder}' holds no case. Wanted: one folder a patient with NIfTI files named as in BraTS or as paired "
            "CT (nct, ctpa), or a folder with a dataset.json."
        )
    return cases


def _case_folders(folder: Path, depth: int = 0) -> Iterable[Case]:
    for sub in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if is_case_folder(sub):
            yield read_case_folder(sub, group=folder.name if depth else "")
        elif depth < MAX_DEPTH - 1:
            yield from _case_folders(sub, depth + 1)
