"""What stands in the rooms is small enough to be read in one go."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
HOUSES = ("DanteSegmenter/DanteSlicerLib",)
MOST_LINES, LONGEST_FUNCTION, MOST_METHODS = 400, 60, 30


def rooms() -> list[str]:
    folders = [folder for house in HOUSES for folder in (REPOSITORY / house, *(REPOSITORY / house).rglob("*"))]
    return [str(folder.relative_to(REPOSITORY)) for folder in folders if list(folder.glob("*.py"))]


@pytest.mark.parametrize("room", rooms())
def test_files_functions_and_classes_stay_small(room):
    for file in (REPOSITORY / room).glob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MOST_LINES, file.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{file.name}: {node.name}"
            if isinstance(node, ast.ClassDef):
                methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
                assert len(methods) <= MOST_METHODS, f"{file.name}: {node.name}"
