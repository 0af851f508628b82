"""The click-through on the stand-in, and the tool that runs the same file in the user's Slicer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import REPOSITORY

TOOL = REPOSITORY / "Testing" / "tools" / "in_slicer.py"


def in_slicer(out, *arguments):
    """Run the tool; returns its exit code and {name: None, or (kind, message)} of all cases."""
    command = [sys.executable, str(TOOL), "--out", str(out), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "QT_QPA_PLATFORM": "offscreen"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert (out / "junit.xml").is_file(), result.stdout + result.stderr
    cases = {}
    for case in ElementTree.parse(out / "junit.xml").getroot().iter("testcase"):
        found = [case.find(kind) for kind in ("failure", "skipped")]
        cases[case.get("name")] = next(((e.tag, e.get("message")) for e in found if e is not None), None)
    return result.returncode, cases


def test_click_through_passes_every_step_on_the_stub_and_takes_pictures(tmp_path, brain_model_folder):
    pytest.importorskip("PySide6", reason="PySide6 is not installed")
    pytest.importorskip("slicer_core", reason="slicer-core is not installed")
    if not brain_model_folder.is_dir():
        pytest.skip("there is no embedded model")
    code, cases = in_slicer(tmp_path, "--stand-in", "--only", "click-through")
    steps = [name for name in cases if name.startswith("step_")]
    assert {name: outcome for name, outcome in cases.items() if outcome} == {}
    assert code == 0
    assert len(steps) == 17 and all((tmp_path / "click-through" / f"{name}.png").stat().st_size > 0 for name in steps)


def test_click_through_without_slicer_is_skipped_with_the_reason(tmp_path):
    code, cases = in_slicer(tmp_path)
    assert code == 0 and set(cases) == {"click-through", "DanteSegmenter", "DanteTrainer"}
    assert all(kind == "skipped" and "SLICER=" in reason for kind, reason in cases.values())


@pytest.mark.skipif(os.name != "posix", reason="a shell script stands for Slicer")
def test_slicer_starts_with_both_modules_under_temporary_settings(tmp_path):
    fake = tmp_path / "Slicer"
    fake.write_text(
        '#!/bin/sh\nfor word in "$@"; do echo "$word"; done > "$DANTE_OUT/words"\n'
        'echo "$XDG_CONFIG_HOME" > "$DANTE_OUT/settings"\ntest -d "$XDG_CONFIG_HOME" || exit 9\n'
        'echo "a reason"\nexit 3\n'
    )
    fake.chmod(0o755)
    code, cases = in_slicer(tmp_path, "--slicer", fake)
    assert code == 1
    assert cases["click-through"] == cases["self-test"] == ("failure", "exit code 3")
    words = (tmp_path / "click-through" / "words").read_text().splitlines()
    assert words[:3] == ["--testing", "--no-splash", "--additional-module-paths"]
    assert all((Path(folder) / f"{Path(folder).name}.py").is_file() for folder in words[3:5])
    assert words[5] == "--python-script" and Path(words[6]).is_file()
    words = (tmp_path / "DanteTrainer" / "words").read_text().splitlines()
    assert words[5] == "--python-code" and "runUnitTest" in words[6] and "'DanteTrainer'" in words[6]
    settings = Path((tmp_path / "click-through" / "settings").read_text().strip())
    assert settings.is_absolute() and not settings.exists()
    assert "a reason" in (tmp_path / "DanteTrainer" / "output.txt").read_text()


def test_missing_slicer_is_reported(tmp_path):
    code, cases = in_slicer(tmp_path, "--slicer", tmp_path / "nowhere", "--only", "click-through")
    assert code == 1 and cases["click-through"] == ("failure", "exit code 127")
