"""The arrow of imports: Slicer modules -> training half -> deployed half."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
APPLICATION = ("slicer", "qt", "ctk", "vtk", "mrml", "SampleData", "PythonQt")
HALVES = {"DanteSegmenterLib": (*APPLICATION, "DanteTrainerLib"), "DanteTrainerLib": APPLICATION}
# Read by the module files when Slicer starts, before torch is installed.
TORCH_FREE = (
    "errors", "volume", "terminology", "structure", "model_folder", "preprocess", "case_folder", "case_list",
    "dataset_json", "modality_guess",
    "model_list", "model_zip", "protocol", "regions", "sample", "worker_client",
)  # fmt: skip
# The Slicer half, from the top: a file imports from its own floor and those below.
SLICER_FLOORS = (
    ("DanteSegmenter",),
    ("DanteSlicerLib.self_test",),
    ("DanteSlicerLib.window",),
    ("DanteSlicerLib.logic", "DanteSlicerLib.sample_data"),
    ("DanteSlicerLib.scene",),
    ("DanteSlicerLib.parameters", "DanteSlicerLib.installing"),
    ("DanteSlicerLib.requirements",),
)
TORCH_FREE_TRAINING = ("background", "status")

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


def modules_of(half):
    folder = REPOSITORY / half.removesuffix("Lib") / half
    files = sorted(folder.rglob("*.py"))
    names = [".".join((half, *file.relative_to(folder).with_suffix("").parts)) for file in files]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("half", HALVES)
def test_every_file_imports_without_what_it_may_not_know(half):
    result = import_with(HALVES[half], modules_of(half))
    assert result.returncode == 0, result.stderr


def test_what_slicer_reads_at_start_up_needs_no_torch():
    names = [f"DanteSegmenterLib.{name}" for name in TORCH_FREE]
    names += [f"DanteTrainerLib.{name}" for name in TORCH_FREE_TRAINING]
    result = import_with(("torch", "safetensors", "monai", "filelock", "tqdm", "pandas", "matplotlib", "nrrd"), names)
    assert result.returncode == 0, result.stderr


def test_the_block_does_block():
    assert import_with(("torch",), ["DanteSegmenterLib.network"]).returncode != 0


def imports_of(file):
    """The full names of what a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def slicer_half():
    """Every file of the Slicer half's segmenter by its full name."""
    folder = REPOSITORY / "DanteSegmenter"
    files = [folder / "DanteSegmenter.py", *sorted((folder / "DanteSlicerLib").rglob("*.py"))]
    names = [".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return dict(zip(names, files))


def floor_of(name):
    """The floor of a file, or of a name that it defines; None for what is not of the Slicer half, and for its face."""
    floors = [n for n, rooms in enumerate(SLICER_FLOORS) for room in rooms if f"{name}.".startswith(f"{room}.")]
    return floors[0] if floors else None


def is_above(other, name):
    return floor_of(other) is not None and floor_of(other) < floor_of(name)


@pytest.mark.parametrize("name", slicer_half())
def test_the_slicer_half_imports_downwards(name):
    if name == "DanteSlicerLib":
        return
    assert floor_of(name) is not None, f"{name} is on no floor"
    upwards = [other for other in imports_of(slicer_half()[name]) if is_above(other, name)]
    assert not upwards


def test_the_slicer_half_knows_neither_torch_nor_the_training_half():
    for name, file in slicer_half().items():
        known = {imported.partition(".")[0] for imported in imports_of(file)}
        assert not known & {"torch", "DanteTrainerLib", "DanteTrainer"}, name
        assert name == "DanteSegmenter" or "DanteSegmenter" not in known, name


def test_what_needs_no_slicer_there_does_without():
    result = import_with(APPLICATION, ["DanteSlicerLib.requirements"])
    assert result.returncode == 0, result.stderr
