"""Finds the commands in the code blocks of the pages, and checks them with the parsers that would read them.

A block is fenced, or indented by four spaces. Shell lines that cannot be checked follow a line

    <!-- not run: reason -->
"""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REASON = re.compile(r"<!-- not run: (.+) -->")
FENCE = re.compile(r"( {0,4})```(\w*)$")
ITEM = re.compile(r"[*-] |\d+\. ")
SHELL_WORDS = ("export ", "if ", "then", "else", "fi")
PROGRAMS = re.compile(r"(\S*/)?(python3?|pip|make|git|torchrun|srun|sbatch|PythonSlicer|ctest|cmake|\w+=\S+ pip)\b")
PYTHON = re.compile(r"^(from \w+ )?import \w|^\w+ = slicer\.|^\w+\.\w+\(", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """Lines of code of a page, and the page's reason for not running them."""

    page: Path
    language: str
    text: str
    reason: str


@dataclass(frozen=True)
class Command:
    """A call of a program, split as by the shell; placeholders such as FOLDER are in capitals.

    Attributes:
        reason: the page's reason for not checking it.
        whole: it is from a block; a command within a sentence may be incomplete.
    """

    page: Path
    words: tuple[str, ...]
    reason: str = ""
    whole: bool = True

    def __str__(self) -> str:
        return " ".join(self.words)


def blocks_of(page: Path) -> Iterator[Block]:
    """The code blocks of a page, each with its language: "sh", "python", or the name on the fence."""
    lines, reason, indent, n = page.read_text(encoding="utf-8").split("\n"), "", "    ", 0
    while n < len(lines):
        fence, found = FENCE.match(lines[n]), []
        if fence:
            end = next(m for m in range(n + 1, len(lines)) if lines[m].strip() == "```")
            found, n = [line.removeprefix(fence[1]) for line in lines[n + 1 : end]], end + 1
        elif lines[n].startswith(indent) and (not n or not lines[n - 1].strip()):
            while n < len(lines) and (lines[n].startswith(indent) or not lines[n].strip()):
                found.append(lines[n])
                n += 1
        if found:
            text = textwrap.dedent("\n".join(found)).strip("\n")
            yield Block(page, (fence and fence[2]) or _language(text), text, reason)
            reason = ""
            continue
        match = REASON.fullmatch(lines[n].strip())
        reason = match[1] if match else reason if not lines[n].strip() else ""
        if lines[n].strip() and not lines[n].startswith(" "):  # an indent of four in a list is a paragraph of it
            indent = "        " if ITEM.match(lines[n]) else "    "
        n += 1


def _language(text: str) -> str:
    if any(PROGRAMS.match(line) for line in text.split("\n")):
        return "sh"
    return "python" if PYTHON.search(text) else ""


def commands_of(page: Path) -> Iterator[Command]:
    """Every command in a page's shell blocks, then those within sentences."""
    for block in blocks_of(page):
        if block.language in ("sh", "bash"):
            yield from (Command(page, words, block.reason) for words in shell_commands(block.text))
    prose = "\n".join(line for line in page.read_text(encoding="utf-8").split("\n") if not line.startswith("    "))
    for inline in re.findall(r"`((?:python -m Dante|python Testing|make |pip |torchrun |PythonSlicer )[^`]+)`", prose):
        if " | " not in inline and "</" not in inline:
            yield Command(page, tuple(shlex.split(" ".join(inline.split()))), whole=False)


def shell_commands(text: str) -> Iterator[tuple[str, ...]]:
    """The calls in lines of shell, without comments, assignments and the keywords of `if`."""
    for line in re.sub(r"\\\n\s*", "", text).split("\n"):
        if line.strip().startswith(SHELL_WORDS):
            continue
        for part in re.split(r" && ", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words = words[1:]
            if words:
                program = re.sub(r"(^|/)python3$", r"\1python", words[0])
                yield program, *words[1:]


# --- calls in Slicer's console ---


def unknown_calls(block: Block, logics: dict[str, ast.ClassDef]) -> list[str]:
    """Calls that a module's logic does not have, or not with these arguments.

    Args:
        logics: by module name, the class returned by `slicer.util.getModuleLogic`.
    """
    tree = ast.parse(block.text)
    names = {
        assign.targets[0].id: logics[ast.literal_eval(assign.value.args[0])]
        for assign in ast.walk(tree)
        if isinstance(assign, ast.Assign)
        and isinstance(assign.targets[0], ast.Name)
        and ast.unparse(getattr(assign.value, "func", assign.value)) == "slicer.util.getModuleLogic"
        and isinstance(assign.value, ast.Call)
    }
    # A page may use names from an earlier block.
    names = {
        "trainer": logics["DanteTrainer"],
        "segmenter": logics["DanteSegmenter"],
        "logic": logics["DanteSegmenter"],
    } | names
    calls = [
        (call, names[call.func.value.id], call.func.attr)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in names
    ]
    return [ast.unparse(call) for call, logic, method in calls if not _takes(logic, method, call)]


def _takes(logic: ast.ClassDef, method: str, call: ast.Call) -> bool:
    function = next((node for node in logic.body if isinstance(node, ast.FunctionDef) and node.name == method), None)
    if function is None:
        return False
    known = [argument.arg for argument in function.args.args][1:]
    given = known[: len(call.args)] + [str(keyword.arg) for keyword in call.keywords]
    needed = known[: len(known) - len(function.args.defaults)]
    fits = len(call.args) <= len(known) and set(given) <= set(known) and len(set(given)) == len(given)
    return fits and set(needed) <= set(given)
