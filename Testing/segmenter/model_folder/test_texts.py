"""Texts and numbers of a model.json are untrusted: shown as plain text, and a bad folder affects no other."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from models import brain_spec, write_brain_model

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.model_folder import read_spec, write_spec
from DanteSegmenterLib.model_folder.about import about
from DanteSegmenterLib.model_folder.library import find_models
from DanteSegmenterLib.model_folder.zip_file import unpack_model
from DanteSegmenterLib.strict_dataclass import to_plain

HOSTILE = "a\x1b]0;owned\x07\n\t<b>b</b>\u202e"
PLAIN = "a]0;owned <b>b</b>"
HUGE = 10**400
ODD = (
    None,
    True,
    -1,
    0,
    HUGE,
    -HUGE,
    1e308,
    10**18,
    "",
    "x" * 1000,
    HOSTILE,
    "../../x",
    [],
    [[]],
    {},
    {"a": 1},
    [1] * 1000,
    "\ud800",
)


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def changed(plain, path, value):
    plain = copy.deepcopy(plain)
    at = plain
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return plain


def texts(value):
    for path in places(value):
        at = value
        for key in path:
            at = at[key]
        yield from (text for text in (at, *path) if isinstance(text, str))


@pytest.fixture(scope="module")
def plain():
    """A description with every field."""
    spec = brain_spec()
    calibration = {"WT": {"cases": 3, "confidence": 0.9, "precision": 0.8, "range_holds": 0.7}}
    full = replace(spec.limited, weights="full.safetensors", modalities=("t1", "t1ce", "t2", "flair"))
    spec = replace(
        spec,
        full=full,
        citations=("a citation",),
        scores={"Scores": {"WT Dice": 0.9}},
        licence="CC",
        training_data="scans",
        intended_use="research",
    )
    return changed(to_plain(spec), ("limited", "calibration"), calibration)


def test_absurd_values_are_refused_or_harmless(tmp_path, plain):
    for n, path in enumerate(filter(None, places(plain))):
        for value in ODD[n % 5 :: 5]:  # each value in every fifth field
            (tmp_path / "model.json").write_text(json.dumps(changed(plain, path, value)))
            try:
                spec = read_spec(tmp_path)
            except ModelError as error:
                assert str(error).isprintable()
                continue
            assert all(text.isprintable() and len(text) <= 2000 for text in texts(to_plain(spec))), path
            assert all(line.isprintable() for line in about(spec).split("\n"))


def test_texts_are_read_as_single_lines(tmp_path, plain):
    folder = write_brain_model(tmp_path / "m")
    for path in (("name",), ("training_data",), ("citations", 0), ("licence",), ("regions", 0, "name")):
        plain = changed(plain, path, HOSTILE)
    (folder / "model.json").write_text(json.dumps(changed(plain, ("modalities", 0, "label"), HOSTILE)))
    spec = read_spec(folder)
    assert (spec.name, spec.training_data, spec.citations, spec.licence) == (PLAIN, PLAIN, (PLAIN,), PLAIN)
    assert spec.regions[0].name == spec.modalities[0].label == PLAIN
    assert find_models([folder], embedded=tmp_path)[-1].title == f"{PLAIN} 1"


def test_umlauts_round_trip(tmp_path):
    spec = replace(brain_spec(), name="Hirntumor für Köln", citations=("Müller, 頭",))
    write_spec(tmp_path, spec)
    assert read_spec(tmp_path) == spec


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("limited", "weights"), "con.safetensors", "inside the model folder"),
        (("limited", "weights"), "..\\a.safetensors", "inside the model folder"),
        (("limited", "weights"), "a .safetensors", "inside the model folder"),
        (("limited", "weights"), ".safetensors", "inside the model folder"),
        (("modalities", 0, "id"), "t1;x:y", "the id 't1;x:y'"),
        (("regions", 0, "id"), "<b>", "the id '<b>'"),
        (("regions", 0, "name"), " \n", "has no name"),
        (("modalities", 0, "label"), "\u202e", "has no label"),
        (("name",), "\x1b", "no name"),
        (("regions", 0, "label_value"), 1, "same label_value"),
        (("regions", 0, "labels"), [HUGE], "not within 0 to"),
        (("regions", 0, "terminology", "type", "meaning"), "a|b", "without '~', '^' and '|'"),
        (("preprocessing", "spacing_mm", 0), HUGE, "a float can hold"),
        (("limited", "calibration", "WT", "confidence"), 7.5, "shares of 0 to 1"),
        (("limited", "calibration", "WT", "cases"), HUGE, "number of cases"),
        (("preprocessing", "normalisation", "t1"), {"kind": "ct_window", "low": 0, "high": 1e300}, "beyond 1e+06"),
        (("preprocessing", "normalisation", "t1"), {"kind": "hu_window", "high": 1.0}, "train it again"),
        (("preprocessing", "normalisation", "t1"), {"kind": "ct_window", "high": 1.0, "std": 1e-30}, "beyond 1e+06"),
    ],
)
def test_harmful_texts_are_refused(tmp_path, plain, path, value, reason):
    (tmp_path / "model.json").write_text(json.dumps(changed(plain, path, value)))
    with pytest.raises(ModelError) as caught:
        read_spec(tmp_path)
    assert reason in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"format_version": 1, "format_version": 1}', "a key is there twice"),
        (b'{"format_version": NaN}', "NaN is no number"),
        (b'{"format_version": -Infinity}', "no number"),
        (b'{"format_version": 1e999}', "valid format_version"),
        (b'{"format_version": 1' + b"0" * 5000 + b"}", "model.json"),
        (b'{"format_version": 1, "name": ' + b"[" * 900 + b"]" * 900 + b"}", "model.json"),
        (b'{"format_version": 1, "name": "' + b"x" * (10 << 20) + b'"}', "is larger than 1048576 bytes"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b'{"format_version": 1, "\\ud800\\n": 1}', "unknown key"),
    ],
)
def test_foreign_json_is_refused(tmp_path, content, reason):
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_spec(tmp_path)
    assert reason in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) <= 2000


def test_byte_order_mark_is_accepted(tmp_path):
    folder = write_brain_model(tmp_path)
    content = (folder / "model.json").read_bytes()
    (folder / "model.json").write_bytes(b"\xef\xbb\xbf" + content)
    assert read_spec(folder) == replace(brain_spec(), limited=read_spec(folder).limited)


def test_bad_folder_does_not_empty_the_list(tmp_path, monkeypatch):
    good, bad = write_brain_model(tmp_path / "good"), write_brain_model(tmp_path / "b\x1bad\n")

    def read(folder):
        if folder == bad:
            raise OverflowError("unforeseen\x1b")
        return read_spec(folder)

    monkeypatch.setattr("DanteSegmenterLib.model_folder.library.read_spec", read)
    entries = find_models([bad, "a\0b", "\udcff", good], embedded=tmp_path / "none")
    assert [entry.spec is not None for entry in entries] == [False, False, False, True]
    assert entries[0].title == "bad (cannot be used)" and entries[0].problem == "unforeseen"
    assert all(entry.problem.isprintable() for entry in entries)


def test_model_of_a_killed_import_is_found_again(tmp_path):
    folder = write_brain_model(tmp_path / "m")
    folder.rename(tmp_path / ".m.before")  # as left by a kill between the two steps of the swap
    assert find_models([folder], embedded=tmp_path / "none")[0].spec == read_spec(folder)


def test_model_texts_cannot_control_the_terminal(tmp_path, plain):
    folder = write_brain_model(tmp_path / "m")
    for path in (("name",), ("intended_use",), ("training_data",), ("regions", 1, "name")):
        plain = changed(plain, path, HOSTILE)
    for content in (json.dumps(plain), json.dumps(changed(plain, ("na\x1bme",), 1)), "{"):
        (folder / "model.json").write_text(content)
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "DanteSegmenterLib", "info", str(folder)]
        shown = subprocess.run(command, capture_output=True, env=env, encoding="utf-8")
        assert all(line.isprintable() for line in (shown.stdout + shown.stderr).split("\n"))
        assert shown.returncode == (0 if content == json.dumps(plain) else 2)


def test_import_over_a_model_in_use_keeps_open_files(tmp_path):
    import zipfile

    model = write_brain_model(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for file in model.iterdir():
            archive.write(file, file.name)
    weights = unpack_model(tmp_path / "m.zip", tmp_path / "into") / "limited.safetensors"
    with open(weights, "rb") as file:
        unpack_model(tmp_path / "m.zip", tmp_path / "into")
        assert file.read() == weights.read_bytes()
