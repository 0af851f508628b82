"""Path arguments of every command of the training half."""

from pathlib import Path

import pytest

from DanteSegmenterLib.errors import ConfigError
from DanteTrainerLib.command_line.parser import parser
from DanteTrainerLib.settings.loading import load_experiment

COMMANDS = {
    "train": ["lower", "--data=D", "--out=O", "--cache=C"],
    "resume": ["R", "--data=D"],
    "evaluate": ["M", "--data=D", "--out=O", "--split-file=S"],
    "levels": ["M", "--data=D", "--out=O"],
    "cost": ["M", "--data=D"],
    "calibrate": ["M", "--data=D"],
    "study": ["ablations", "--data=D", "--out=O"],
    "features": ["M", "--data=D", "--out=O"],
    "publish": ["M", "--card=C", "--to=T", "--scores=S"],
    "clean": ["R"],
}
PATHS = [(verb, n) for verb, words in COMMANDS.items() for n, word in enumerate(words) if word[-1].isupper()]


def given(verb, n, path):
    """The words of a command, with its `n`th path replaced."""
    words = list(COMMANDS[verb])
    words[n] = words[n][:-1] + path
    return [verb, *words]


@pytest.mark.parametrize(("verb", "n"), PATHS)
def test_tilde_after_an_equals_sign_is_the_home_folder(monkeypatch, tmp_path, verb, n):
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = vars(parser().parse_args(given(verb, n, "~/there"))).values()
    found = [path for value in paths for path in (value if isinstance(value, list) else [value])]
    assert tmp_path / "there" in found and Path("~/there") not in found


@pytest.mark.parametrize(("verb", "n"), PATHS)
def test_empty_path_is_refused(capsys, verb, n):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(given(verb, n, ""))
    assert ended.value.code == 2 and "the path is empty" in capsys.readouterr().err


def test_empty_experiment_name_is_refused_and_a_file_in_the_home_folder_loaded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.toml").write_text("run.steps = 7\n")
    assert load_experiment("~/mine.toml").run.steps == 7
    with pytest.raises(ConfigError, match="there is no experiment ''"):
        load_experiment("")
