"""Find the cases in a folder of many patients, in any known layout. Does not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InputError
from ..files.user_files import entries, is_file, is_folder
from ..model_folder.spec import Modality
from .case import Case
from .case_folder import image_files, is_case_folder, read_case_folder
from .dataset_json import has_images, read_dataset_json
from .label_schemes import LabelScheme, read_labels_file
from .model_names import ModelNames
from .time_points import is_time_point, without_time_point

# Deep enough for <challenge>/<grade>/<patient>/<time point>.
MAX_DEPTH = 4
# BIDS folders with results and originals of the images beside them; and the folder in a session with no name of its
# own.
PASSED_OVER = {"derivatives", "sourcedata"}
ANATOMY = "anat"


def find_cases(folder: Path, modalities: Sequence[Modality] = ()) -> list[Case]:
    """Find all cases in a folder: case folders up to four levels deep, MSD Task01, or nnU-Net raw data.

    A folder that is unreadable or ambiguous becomes a case with a `problem`; the others are unaffected.

    Args:
        modalities: of the model that will segment the cases; adds its names. No labels are needed then.

    Raises:
        InputError: the folder does not exist, cannot be read, or contains no case.
    """
    cases = cases_below(folder, modalities)
    if not cases:
        names = ModelNames(tuple(modalities))
        named = f"whose names end in {names.listed}, or are as" if names.own else "named as"
        raise InputError(
            f"'{folder}' holds no case. Wanted: one folder a patient with NIfTI files {named} in BraTS or as paired "
            "CT (nct, ctpa), a DICOM study (for batch), or a folder with a dataset.json."
        )
    return cases


def cases_below(folder: Path, modalities: Sequence[Modality] = ()) -> list[Case]:
    """Like `find_cases`, but no cases are not an error.

    Raises:
        InputError: the folder does not exist, or cannot be read.
    """
    found = entries(folder)
    scheme, names = read_labels_file(folder), ModelNames(tuple(modalities))
    described = is_file(folder / "dataset.json")
    cases = [] if described and has_images(folder) else list(_Search(scheme, names).below(folder, found))
    if not cases and described:
        cases = read_dataset_json(folder, scheme, names)
    return cases


class _Search:
    """Recursive search, with the label scheme and the model's names for images."""

    def __init__(self, scheme: LabelScheme | None, names: ModelNames) -> None:
        self._scheme, self._names = scheme, names

    def below(self, folder: Path, found: list[Path], depth: int = 0, name: str = "", group: str = "") -> Iterable[Case]:
        """Yield the cases below a folder.

        Args:
            found: contents of the folder.
            name: name of the patient, for a time point in this folder.
            group: group of a time point in this folder.
        """
        for sub in found:
            if sub.name.lower() in PASSED_OVER or not is_folder(sub):
                continue
            try:
                case_name, of_patient = _name_below(name, sub) if depth else (sub.name, False)
                case_group = group if of_patient or not depth else folder.name
                if is_case_folder(sub, self._names):
                    yield read_case_folder(sub, case_group, case_name, self._scheme, self._names)
                elif depth < MAX_DEPTH - 1:
                    yield from self.below(sub, entries(sub), depth + 1, case_name, case_group)
            except InputError as error:
                yield Case(sub.name, {}, None, {}, problem=str(error))


def _name_below(patient: str, folder: Path) -> tuple[str, bool]:
    """Name of a case in a subfolder, and whether the parent folder is its patient's.

    It is if the subfolder is named like a time point, or it or its images like a time point of the parent's name.
    """
    if folder.name.lower() == ANATOMY:
        return patient, True
    if without_time_point(folder.name)[0] == patient.lower():
        return folder.name, True
    together = f"{patient}_{folder.name}"
    if is_time_point(folder.name):
        return together, True
    images = image_files(folder) if without_time_point(together)[0] == patient.lower() else []
    if images and all(path.name.startswith(patient) for path in images):
        return together, True
    return folder.name, False
