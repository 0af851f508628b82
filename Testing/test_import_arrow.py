"""The arrow of imports: Slicer modules -> training half -> deployed half."""

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
