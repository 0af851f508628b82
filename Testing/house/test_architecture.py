import ast
import re

import pytest
from conftest import REPOSITORY

TESTS = {"DanteSlicerLib": "slicer_side", "DanteTrainerLib": "trainer", "DanteSegmenterLib": "segmenter"}
LIBRARIES = {
    "DanteSlicerLib": REPOSITORY / "DanteSegmenter" / "DanteSlicerLib",
    "DanteTrainerLib": REPOSITORY / "DanteTrainer" / "DanteTrainerLib",
    "DanteSegmenterLib": REPOSITORY / "DanteSegmenter" / "DanteSegmenterLib",
}


def rooms_in_the_docs(library):
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = re.search(rf"\| room of {library} \|.*\n\|---\|---\|\n((?:\|.*\n)+)", text)[1]
    return dict(re.findall(r"\| `([\w/]+)` \| (.+) \|", table))


def rooms_of(folder):
    """Room -> its `__init__` file, without the library itself."""
    files = folder.rglob("__init__.py")
    return {file.parent.relative_to(folder).as_posix(): file for file in files if file.parent != folder}


@pytest.mark.parametrize("library", LIBRARIES)
def test_room_table_matches_room_docstrings(library):
    rooms = rooms_of(LIBRARIES[library]).items()
    docstrings = {room: ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) for room, file in rooms}
    assert rooms_in_the_docs(library) == docstrings


@pytest.mark.parametrize("library", LIBRARIES)
def test_tests_of_each_room_are_in_a_folder_of_its_name(library):
    folder = REPOSITORY / "Testing" / TESTS[library]
    tested = {file.parent.relative_to(folder).as_posix() for file in folder.rglob("*.py") if file.parent != folder}
    assert tested == set(rooms_of(LIBRARIES[library]))


def test_test_files_stay_below_the_length_limit():
    files = [*(REPOSITORY / "Testing").rglob("test_*.py"), *(REPOSITORY / "Testing").glob("*.py")]
    assert not [file.name for file in files if file.read_text(encoding="utf-8").count("\n") > 400]


def test_library_files_functions_and_classes_stay_below_the_length_limits():
    too_large = []
    for folder in LIBRARIES.values():
        for file in folder.rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            name = file.relative_to(folder).as_posix()
            if text.count("\n") > 400:
                too_large.append(f"{name}: {text.count(chr(10))} lines")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > 60:
                    too_large.append(f"{name}: {node.name} has {node.end_lineno - node.lineno + 1} lines")
                if isinstance(node, ast.ClassDef) and sum(isinstance(n, ast.FunctionDef) for n in node.body) > 30:
                    too_large.append(f"{name}: {node.name} has more than 30 methods")
    assert not too_large


def constants_of(file):
    """The names in capital letters assigned at the top level of a file."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            yield from (name for name in names if name.isupper())


def test_constant_names_are_unique():
    """A shared constant is imported, and different constants have different names, for readers and for searches."""
    places = {}
    for folder in LIBRARIES.values():
        for file in sorted(folder.rglob("*.py")):
            for name in constants_of(file):
                places.setdefault(name, []).append(file.relative_to(folder.parent).as_posix())
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def docstrings_of(file):
    """The object a docstring belongs to, and its text."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            yield f"{file.name}: {node.name}", ast.get_docstring(node)


def test_raises_sections_list_one_error_per_line():
    together = []
    for file in (file for folder in LIBRARIES.values() for file in folder.rglob("*.py")):
        for place, text in docstrings_of(file):
            block = text.partition("Raises:")[2].partition("\n\n")[0]
            entries = re.findall(r"^    (?! )(.*)$", block, re.MULTILINE)
            alone = all(re.match(r"\w+: ", entry) for entry in entries) and not block.partition("\n")[0]
            if not alone or re.search(r"\. (\w+Error|Cancelled|TrainingFailed)\b", block):
                together.append(place)
    assert not together


def test_tests_named_in_the_fault_table_exist():
    text = (REPOSITORY / "docs" / "faults.md").read_text(encoding="utf-8")
    missing, folder = [], ""
    for name in re.findall(r"[\w/]*test_\w+\.py", text):
        folder = name.rpartition("/")[0] or folder
        if not (REPOSITORY / "Testing" / folder / name.rpartition("/")[2]).is_file():
            missing.append(name)
    assert not missing
