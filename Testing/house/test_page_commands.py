"""Commands on the pages are valid for the programs: verbs, options, settings, names and targets."""

import argparse
import ast
import re
import shlex
from functools import cache

import pytest
from conftest import REPOSITORY
from page_commands import Command, blocks_of, commands_of, shell_commands, unknown_calls

from DanteSegmenterLib.command_line.parser import parser as segmenter_parser
from DanteSegmenterLib.errors import ConfigError
from DanteTrainerLib.command_line.parser import parser as trainer_parser
from DanteTrainerLib.data.dataset import SPLIT_NAMES
from DanteTrainerLib.methods import METHODS
from DanteTrainerLib.settings.loading import list_experiments, list_studies, load_experiment
from DanteTrainerLib.study.study_file import read_study

PAGES = [REPOSITORY / "README.md", REPOSITORY / "RESULTS.md", REPOSITORY / "CONTRIBUTING.md"]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
PARSERS = {"DanteSegmenterLib": segmenter_parser, "DanteTrainerLib": trainer_parser}
LEFT_OUT = ("...", "…")
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*")
# Commands that no parser here reads and that are not run, by prefix, with the reason.
NOT_CHECKED = {
    "git clone": "needs a network",
    "git rebase": "git's own",
    "cd ": "the shell's own",
    "cp ": "the shell's own",
    ". ": "the shell's own",
    "python -m venv": "Python's own; every target of the Makefile does it",
    "python -m http.server": "Python's own",
    "python -m monai.bundle run": "MONAI's own; Testing/segmenter/export/test_bundle.py runs it",
    "python Testing/": "measures for minutes; that the file is there is checked",
}


def parse(parser, words):
    try:
        return parser.parse_args(list(words))
    except SystemExit:
        raise ValueError("not understood") from None


def loosened(parser):
    """The same parser without required arguments, for commands that are incomplete."""
    for action in parser._actions:
        action.required = False
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                loosened(command)
        elif not action.option_strings:
            action.nargs = "?"
    return parser


def check_dante(library, words, whole=True):
    parser = PARSERS[library]()
    if not whole or set(words) & set(LEFT_OUT):
        parser, words = loosened(parser), [word for word in words if word not in LEFT_OUT]
    given = vars(parse(parser, words))
    assert PLACEHOLDER.fullmatch(given.get("method") or "M") or given["method"] in METHODS
    assert given.get("split") in (None, *SPLIT_NAMES)
    model = str(given.get("model") or "")
    assert not model.startswith("Resources") or (REPOSITORY / model / "model.json").is_file()
    experiment = given.get("experiment")
    assert experiment in (None, *list_experiments()) or str(experiment).endswith(".toml")
    for override in given.get("set") or ():
        check_setting(override)
    study = str(given.get("study") or "")
    if study and not study.endswith(".toml"):
        assert given["size"] in ("", *read_study(list_studies()[study]).size), "the study has no such size"


def check_setting(override):
    """Check that a setting accepts a value; a value in capitals is a placeholder."""
    key, _equals, value = override.partition("=")
    if PLACEHOLDER.fullmatch(value) or not value:
        with pytest.raises(ConfigError, match="is needed, got|needs|must"):
            load_experiment(overrides=[f"{key}=[[0]]"])
    else:
        load_experiment(overrides=[override])


def check_make(words):
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()
    for word in words:
        name, equals, _value = word.partition("=")
        assert f"$({name})" in text if equals else word in targets


@cache
def extras():
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    table = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    return set(re.findall(r"^(\w+) = \[", table, re.MULTILINE))


def check_pip(words):
    from pip._internal.commands import create_command

    command = create_command(words[0])
    try:
        _options, packages = command.parser.parse_args(list(words[1:]))
    except SystemExit:
        raise ValueError("not understood") from None
    for package in packages:
        ours = re.fullmatch(r"(?:\.|slicer-dante)(?:\[(.*)\])?", package)
        assert not ours or not ours[1] or set(ours[1].split(",")) <= extras()


def check_torchrun(words):
    from torch.distributed.run import get_args_parser

    given = parse(get_args_parser(), words)
    assert given.module
    check_dante(given.training_script, given.training_script_args)


def check(command: Command):
    words = command.words
    if words[0] == "srun":
        words = words[words.index("torchrun") :]
    program = words[0].rpartition("/")[2]
    if program in ("python", "PythonSlicer") and words[1:3] == ("-m", "pip"):
        check_pip(words[3:])
    elif program == "python" and words[1] == "-m" and words[2] in PARSERS:
        check_dante(words[2], words[3:], command.whole)
    elif program in ("pip", "make", "torchrun"):
        {"pip": check_pip, "make": check_make, "torchrun": check_torchrun}[program](words[1:])
    elif not command.reason:
        assert any(str(command).startswith(start) for start in NOT_CHECKED), "nothing checks it, and no reason is given"
        if str(command).startswith("python Testing/"):
            assert (REPOSITORY / words[1]).is_file()


def name_of(page):
    return page.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_on_pages_parse(page, capsys):
    wrong = []
    for command in commands_of(page):
        try:
            check(command)
        except (AssertionError, ValueError, ConfigError, KeyError) as error:
            wrong.append(f"{command}: {error} {capsys.readouterr().err[-200:]}")
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_and_settings_named_in_sentences_exist(page):
    known = {option for parser in PARSERS.values() for option in options_of(parser())}
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for text in re.findall(r"`(--[^`]+)`", prose):
        words = shlex.split(" ".join(text.split()))
        for word, following in zip(words, [*words[1:], ""]):
            assert not word.startswith("--") or word.partition("=")[0] in known | OTHERS_OPTIONS, text
            if word == "--set" and following not in ("", "key=value"):
                check_setting(following)
    sections = "data|network|optimiser|pretrain_optimiser|run|distillation|dropping"
    for key in re.findall(rf"`((?:{sections}|{'|'.join(METHODS)})\.\w+(?:=[^`]*)?)`", prose):
        if not re.search(r"\.(md|py|json|toml|pt|png|csv|sbatch)$", key):
            check_setting(key)


# Names of pip, Docker and Slicer.
OTHERS_OPTIONS = {"--constraint", "--find-links", "--cert", "--shm-size", "--no-main-window", "--strict"}


def options_of(parser):
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options_of(command)


@cache
def logics():
    files = {"DanteSegmenter": "DanteSegmenter/DanteSlicerLib/logic.py", "DanteTrainer": "DanteTrainer/DanteTrainer.py"}
    found = {}
    for module, file in files.items():
        tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
        found[module] = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == f"{module}Logic")
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_slicer_console_calls_match_the_modules(page):
    for block in blocks_of(page):
        if block.language == "python":
            assert unknown_calls(block, logics()) == []


def test_wrong_word_in_a_command_is_detected():
    for text in (
        "python -m DanteTrainerLib trian dante --data D --out R",
        "python -m DanteTrainerLib train dnate --data D --out R",
        "python -m DanteTrainerLib train dante --data D --out R --set run.stepps=5",
        "python -m DanteTrainerLib train dante --data D --out R --set run.steps=many",
        "python -m DanteTrainerLib train dante --data D --out R --experiment brats-3mm",
        "python -m DanteTrainerLib study table-1 --size tiny --data D --out R",
        "python -m DanteSegmenterLib info Resources/Models/none",
        "python -m DanteSegmenterLib batch D --model M",
        "torchrun --nproc-per-node 2 -m DanteTrainerLib resume",
        "make tset",
        "make demo CSAE=x",
        "pip install --frm x",
        "pip install '.[trian]'",
        "dante segment",
    ):
        with pytest.raises((AssertionError, ValueError, ConfigError, KeyError)):
            for words in shell_commands(text):
                check(Command(REPOSITORY, words))


def test_wrong_call_of_a_module_is_detected(tmp_path):
    page = tmp_path / "page.md"
    calls = (
        "trainer.strat('dante')",
        "trainer.start('dante')",
        "trainer.stop(run, 1, 2)",
        "logic.segment({}, modle=1)",
    )
    for call in calls:
        page.write_text(f"```python\n{call}\n```\n")
        assert unknown_calls(next(blocks_of(page)), logics()) == [call]
