"""The layering of imports as a list of floors: a room may import from its own floor and those below, never above."""

import ast
import subprocess
import sys

import pytest
from conftest import REPOSITORY

APPLICATION = ("slicer", "qt", "ctk", "vtk", "mrml", "SampleData", "PythonQt")
HALVES = {"DanteSegmenterLib": (*APPLICATION, "DanteTrainerLib"), "DanteTrainerLib": APPLICATION}
# From the top. Rooms are folders; files beside them are on the ground floor, except for the command line.
FLOORS = {
    "DanteSegmenterLib": (
        {"__main__"},
        {"command_line"},
        {"worker", "batch", "export"},
        {"dicom", "nnunet"},
        {"inference", "pictures", "cases"},
        {"networks", "preprocess", "files", "result", "synthetic", "host"},
        {"model_folder", "volume"},
        {"errors", "guard", "strict_dataclass", "options", "memory", "priority", "child_process", "program"},
    ),
    "DanteTrainerLib": (
        {"__main__"},
        {"command_line"},
        {"study"},
        {"run"},
        {"methods", "release"},
        {"loop", "evaluation"},
        {"data"},
        {"settings"},
        {"status", "ending", "locks", "whole_files"},
    ),
    "DanteSlicerLib": (
        {"self_test"},
        {"window"},
        {"logic", "sample_data"},
        {"scene"},
        {"parameters", "installing", "foreign_texts"},
        {"requirements"},
    ),
}
# The module file beside each library.
MODULE_FOLDERS = {
    "DanteSegmenterLib": "DanteSegmenter",
    "DanteSlicerLib": "DanteSegmenter",
    "DanteTrainerLib": "DanteTrainer",
}
TORCH_ROOMS = {"networks", "inference", "export"}
# Imported by the module files when Slicer starts, before torch is installed.
TORCH_FREE = [
    "errors", "volume", "strict_dataclass", "options", "memory", "priority", "child_process", "program", "model_folder",
    "model_folder.terminology", "model_folder.library", "model_folder.zip_file", "model_folder.about", "preprocess",
    "cases.case_folder", "cases.case_list", "cases.dataset_json", "cases.modality_guess", "result", "result.regions",
    "dicom.case_list", "dicom.sequence_guess", "dicom.write_seg", "nnunet",
    "worker.protocol", "worker.client", "worker.whole_run", "batch.process", "host.address", "synthetic.sample",
]  # fmt: skip
TORCH_FREE_TRAINING = ("run.background", "status", "ending", "locks", "whole_files")

BLOCKED_IMPORT = """
import importlib, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
for name in {names!r}:
    importlib.import_module(name)
"""


def import_with(blocked, names):
    paths = [str(REPOSITORY / "DanteSegmenter"), str(REPOSITORY / "DanteTrainer")]
    code = f"import sys; sys.path[:0] = {paths!r}\n" + BLOCKED_IMPORT.format(blocked=tuple(blocked), names=list(names))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def folder_of(half):
    return REPOSITORY / MODULE_FOLDERS[half] / half


def modules_of(half):
    folder = folder_of(half)
    files = sorted(folder.rglob("*.py"))
    names = [".".join((half, *file.relative_to(folder).with_suffix("").parts)) for file in files]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def imports_of(file, half):
    """(dotted module, whether at the file's top level) of every import, with relative imports resolved."""
    here = (half, *file.relative_to(folder_of(half)).parent.parts)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    at_top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = (*here[: len(here) - node.level + 1], *filter(None, [node.module])) if node.level else [node.module]
            yield ".".join(parts), id(node) in at_top
            yield from ((".".join((*parts, alias.name)), id(node) in at_top) for alias in node.names)


def room_of(module, half):
    parts = module.split(".")
    return parts[1] if parts[0] == half and len(parts) > 1 else None


def floor_of(room, half):
    return next((n for n, rooms in enumerate(FLOORS[half]) if room in rooms), None)


@pytest.mark.parametrize("half", FLOORS)
def test_every_room_is_assigned_to_a_floor(half):
    folder = folder_of(half)
    rooms = {path.name for path in folder.iterdir() if (path / "__init__.py").is_file()}
    rooms |= {path.stem for path in folder.glob("*.py") if path.stem != "__init__"}
    assert rooms == set().union(*FLOORS[half])


@pytest.mark.parametrize("half", FLOORS)
def test_no_room_imports_from_a_floor_above(half):
    upwards = []
    for file in sorted(folder_of(half).rglob("*.py")):
        own = file.relative_to(folder_of(half)).with_suffix("").parts[0]
        for module, _ in imports_of(file, half):
            other = floor_of(room_of(module, half), half)
            if own != "__init__" and other is not None and other < floor_of(own, half):
                upwards.append(f"{file.relative_to(folder_of(half))} imports {module}")
    assert not upwards


def test_torch_is_imported_by_three_deployed_rooms_and_elsewhere_only_inside_functions():
    half = "DanteSegmenterLib"
    strangers = []
    for file in sorted(folder_of(half).rglob("*.py")):
        own = file.relative_to(folder_of(half)).with_suffix("").parts[0]
        for module, at_top in imports_of(file, half):
            torch = module.split(".")[0] == "torch" or room_of(module, half) in TORCH_ROOMS
            if torch and at_top and own not in TORCH_ROOMS:
                strangers.append(f"{file.relative_to(folder_of(half))} imports {module}")
    assert not [line for line in strangers if not line.startswith("worker/server.py")]


@pytest.mark.parametrize("half", FLOORS)
def test_rooms_have_at_most_nine_files_and_a_one_line_purpose(half):
    for room in folder_of(half).rglob("__init__.py"):
        files = [path for path in room.parent.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= 9, room.parent
        line = ast.get_docstring(ast.parse(room.read_text(encoding="utf-8")))
        assert line and "\n" not in line and line.endswith("."), room


@pytest.mark.parametrize("half", HALVES)
def test_every_file_imports_without_its_forbidden_modules(half):
    result = import_with(HALVES[half], modules_of(half))
    assert result.returncode == 0, result.stderr


def test_files_read_at_slicer_startup_need_no_torch():
    names = [f"DanteSegmenterLib.{name}" for name in TORCH_FREE]
    names += [f"DanteTrainerLib.{name}" for name in TORCH_FREE_TRAINING]
    absent = ("torch", "safetensors", "monai", "filelock", "tqdm", "pandas", "matplotlib", "nrrd", "pydicom")
    result = import_with(absent, names)
    assert result.returncode == 0, result.stderr


def test_following_a_training_loads_no_numbers_and_no_images():
    result = import_with(("numpy", "SimpleITK"), [f"DanteTrainerLib.{name}" for name in TORCH_FREE_TRAINING])
    assert result.returncode == 0, result.stderr


def test_import_block_works():
    assert import_with(("torch",), ["DanteSegmenterLib.networks.unet"]).returncode != 0


def test_slicer_half_imports_neither_torch_nor_training_half_nor_module_file():
    half, strangers = "DanteSlicerLib", ("torch", "DanteTrainerLib", "DanteTrainer", "DanteSegmenter")
    for file in sorted(folder_of(half).rglob("*.py")):
        known = {module.split(".")[0] for module, _ in imports_of(file, half)}
        assert not known & set(strangers), file


def test_slicer_free_files_of_the_slicer_half_import_without_slicer():
    result = import_with(APPLICATION, ["DanteSlicerLib.requirements"])
    assert result.returncode == 0, result.stderr
