"""CMake's lists match the tree, and the installed files work in Slicer's layout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from models import write_brain_model

MODULES = ("DanteSegmenter", "DanteTrainer")
NOT_INSTALLED = {"CMakeLists.txt"}


def listed(module: str, variable: str) -> list[str]:
    """The files in `set(<variable> ...)` of a module's CMakeLists.txt, including those of nested variables."""
    text = (REPOSITORY / module / "CMakeLists.txt").read_text(encoding="utf-8")
    words = re.search(rf"set\({variable}\s+([^)]*)\)", text)[1].split()
    return [file for word in words for file in (listed(module, word[2:-1]) if word.startswith("${") else [word])]


def in_tree(module: str) -> set[str]:
    """Every file of a module's folder, relative to it."""
    folder = REPOSITORY / module
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in files if not is_clutter(path) and path.name not in NOT_INSTALLED}


def is_clutter(path: Path) -> bool:
    """Whether a path is a cache left by tools."""
    return any(part == "__pycache__" or part.startswith(".") for part in path.parts)


@pytest.mark.parametrize("module", MODULES)
def test_cmake_lists_match_the_tree(module):
    scripts, resources = (listed(module, f"MODULE_PYTHON_{kind}") for kind in ("SCRIPTS", "RESOURCES"))
    assert len(set(scripts + resources)) == len(scripts + resources), "a file is listed twice"
    tree = in_tree(module)
    not_installed, not_there = tree - set(scripts + resources), set(scripts + resources) - tree
    assert not not_installed, f"not listed in {module}/CMakeLists.txt, so not installed: {sorted(not_installed)}"
    assert not not_there, f"listed in {module}/CMakeLists.txt, but not in the tree: {sorted(not_there)}"
    assert all(name.endswith(".py") for name in scripts)


def test_modules_do_not_overwrite_each_other_in_their_shared_folder():
    files = [listed(module, f"MODULE_PYTHON_{kind}") for module in MODULES for kind in ("SCRIPTS", "RESOURCES")]
    assert len(set(sum(files, []))) == len(sum(files, []))


# A minimal Slicer with only the build macros, which lay out files like the real ones.
SLICER_CONFIG = """
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.11/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.11/qt-scripted-modules)
set(BUILD_TESTING ON)
"""
USE_SLICER = """
enable_testing()
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown: ${MY_UNPARSED_ARGUMENTS}")
  endif()
  foreach(file ${MY_SCRIPTS} ${MY_RESOURCES})
    get_filename_component(folder ${file} DIRECTORY)
    install(FILES ${file} DESTINATION ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}/${folder} COMPONENT RuntimeLibraries)
  endforeach()
endmacro()
macro(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS" ${ARGN})
  get_filename_component(name ${MY_SCRIPT} NAME_WE)
  add_test(NAME py_${MY_TESTNAME_PREFIX}${name} COMMAND true)
endmacro()
"""


def run(*command: str | Path) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the files that CMake reads, with a model even if none is embedded yet."""
    source = tmp_path_factory.mktemp("cmake") / "source"
    for name in (*MODULES, "Resources", "Testing"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(REPOSITORY / "CMakeLists.txt", source)
    if not list((source / "Resources" / "Models").glob("*/model.json")):
        write_brain_model(source / "Resources" / "Models" / "tiny")
    return source


@pytest.fixture(scope="module")
def installed(source):
    """The folder of modules as installed from the package: every listed file of both modules, and the models."""
    target = source.parent / "Slicer-5.11" / "qt-scripted-modules"
    for module in MODULES:
        for name in listed(module, "MODULE_PYTHON_SCRIPTS") + listed(module, "MODULE_PYTHON_RESOURCES"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / module / name, target / name)
    shutil.copytree(source / "Resources" / "Models", target / "Resources" / "Models")
    return target


def files_in(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and not is_clutter(path)
    }


def test_cmake_installs_the_expected_layout(source, installed):
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    slicer, build, package = (source.parent / name for name in ("slicer", "build", "package"))
    slicer.mkdir()
    for name, text in (("SlicerConfig", SLICER_CONFIG), ("UseSlicer", USE_SLICER), ("Nothing", "")):
        (slicer / f"{name}.cmake").write_text(text)
    run("cmake", "-S", source, "-B", build, f"-DSlicer_DIR={slicer}")
    assert run("ctest", "--test-dir", build, "-N").count("DanteSegmenter") == 2
    run("cmake", "--install", build, "--prefix", package, "--component", "RuntimeLibraries")
    modules = Path("lib") / "Slicer-5.11" / "qt-scripted-modules"
    # The tests above import from `installed` and leave only byte code behind.
    assert files_in(package / modules) == files_in(installed)
    assert list((build / modules / "Resources" / "Models").glob("*/model.json")), "the build tree has no models"


def python(installed: Path, code: str) -> str:
    """Run code with only the installed modules on the path."""
    code = (
        f"import sys; sys.path[:] = [p for p in sys.path if 'Dante' not in p]; sys.path[0] = {str(installed)!r}\n"
        + code
    )
    return run(sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-c", code)


def test_installed_layout_finds_and_loads_its_models(installed):
    output = python(
        installed,
        "from DanteSegmenterLib import inference\nfrom DanteSegmenterLib.model_folder import library\n"
        f"assert library.__file__.startswith({str(installed)!r}), library.__file__\n"
        "entry = library.choose_model(library.find_models())\n"
        "print(inference.load_model(entry.folder, 'cpu').folder)",
    )
    assert output.strip().startswith(str(installed / "Resources" / "Models"))


def test_installed_training_half_finds_the_deployed_half(installed):
    output = python(installed, "import DanteTrainerLib, DanteSegmenterLib\nprint(DanteSegmenterLib.__file__)")
    assert output.strip().startswith(str(installed))


def test_installed_module_file_loads_and_finds_its_window(installed):
    pytest.importorskip("PySide6")
    pytest.importorskip("slicer_core")
    code = (
        f"sys.path.insert(1, {str(REPOSITORY / 'Testing' / 'app')!r})\n"
        "import os; os.environ['QT_QPA_PLATFORM'] = 'offscreen'\n"
        "import slicer\nfrom pathlib import Path\n"
        f"slicer.app.load_module(Path({str(installed)!r}) / 'DanteSegmenter.py')\n"
        "widget = slicer.util.getModuleWidget('DanteSegmenter')\n"
        "print('button:', widget.ui.segmentButton.text, 'model:', widget.choices.model.folder, flush=True)\n"
        "os._exit(0)"
    )
    output = python(installed, code)
    assert "button: Segment" in output and str(installed / "Resources" / "Models") in output
