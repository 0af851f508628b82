"""A folder of many patients -> their cases, in any layout that is known. No torch."""

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
# Of BIDS: results and originals of the images beside them; and the folder of a session that holds no name.
PASSED_OVER = {"derivatives", "sourcedata"}
ANATOMY = "anat"


def find_cases(folder: Path, modalities: Sequence[Modality] = ()) -> list[Case]:
    """All cases below a folder: case folders at any depth down to the fourth, MSD Task01, or nnU-Net raw data.

    A folder that cannot be read, or whose files are not clear, is a case with a `problem`; the others are not in want
    of it.

    Args:
        modalities: of the model that will segment them, whose names are known then, too; labels are not asked for.

    Raises:
        InputError: there is no such folder, it cannot be read, or no case is in it.
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
    """As `find_cases`; none is no error.

    Raises:
        InputError: there is no such folder, or it cannot be read.
    """
    found = entries(folder)
    scheme, names = read_labels_file(folder), ModelNames(tuple(modalities))
    described = is_file(folder / "dataset.json")
    cases = [] if described and has_images(folder) else list(_Search(scheme, names).below(folder, found))
    if not cases and described:
        cases = read_dataset_json(folder, scheme, names)
    return cases


class _Search:
    """Goes down from a folder; remembers what the labels mean there, and what the model calls its images."""

    def __init__(self, scheme: LabelScheme | None, names: ModelNames) -> None:
        self._scheme, self._names = scheme, names

    def below(self, folder: Path, found: list[Path], depth: int = 0, name: str = "", group: str = "") -> Iterable[Case]:
        """
        Args:
            found: what the folder holds.
            name: by which a time point in this folder is called: the patient's.
            group: of a time point in this folder.
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
    """What a case in a folder below another is called, and whether the folder above is its patient's.

    It is where the folder is named as a time point, or it or its images as a time point of the folder above.
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
