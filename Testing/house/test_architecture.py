import ast
import re

import pytest
from conftest import REPOSITORY

LIBRARIES = {
    "DanteSlicerLib": REPOSITORY / "DanteSegmenter" / "DanteSlicerLib",
    "DanteTrainerLib": REPOSITORY / "DanteTrainer" / "DanteTrainerLib",
    "DanteSegmenterLib": REPOSITORY / "DanteSegmenter" / "DanteSegmenterLib",
}


def rooms_in_the_docs(library):
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = re.search(rf"\| room of {library} \|.*\n\|---\|---\|\n((?:\|.*\n)+)", text)[1]
    return dict(re.findall(r"\| `([\w/]+)` \| (.+) \|", table))


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_table_of_rooms_says_what_each_room_says_of_itself(library):
    folder = LIBRARIES[library]
    rooms = {
        file.parent.relative_to(folder).as_posix(): ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        for file in folder.rglob("__init__.py")
        if file.parent != folder
    }
    assert rooms_in_the_docs(library) == rooms


def test_no_file_function_or_class_of_the_libraries_grows_beyond_what_can_be_read():
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
