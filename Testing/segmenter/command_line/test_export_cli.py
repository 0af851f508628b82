"""Invalid uses of `export` are refused in one sentence before anything is written."""

import pytest
from models import write_brain_model

from DanteSegmenterLib.__main__ import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--onnx", "x.txt"], "unknown ending"),
        (["--onnx", "no/x.onnx"], "does not exist"),
        (["--onnx", "x.onnx", "--pathway", "full"], "'test model' has no pathway 'full'; it has limited."),
        (["--monai-bundle", "no/bundle"], "does not exist"),
        (["--monai-bundle", "full"], "exists and is no bundle"),
        (["--monai-bundle", "x", "--pathway", "full"], "'test model' has no pathway 'full'; it has limited."),
    ],
)
def test_invalid_arguments_are_refused(arguments, message, model, tmp_path, monkeypatch, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(model), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "thesis.txt"]


@pytest.mark.parametrize("arguments", [[], ["--onnx", "x.onnx", "--monai-bundle", "x"]])
def test_exactly_one_format_is_required(arguments, model):
    with pytest.raises(SystemExit):
        main(["export", str(model), *arguments])


def test_folder_that_is_no_model_is_refused(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--onnx", str(tmp_path / "x.onnx")]) == 2
    assert "is no model folder" in capsys.readouterr().err
