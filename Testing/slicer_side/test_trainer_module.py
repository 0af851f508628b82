"""DanteTrainer in the application stand-in: found as in Slicer, and the README's own lines."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY
from slicer_window import add_study


@pytest.fixture(scope="session")
def slicer(slicer):
    """The application stand-in with both modules."""
    slicer.app.load_module(REPOSITORY / "DanteTrainer" / "DanteTrainer.py")
    return slicer


@pytest.fixture(autouse=True)
def logic(slicer):
    """The module's logic, polling its runs more often than every second."""
    return hastened(slicer.util.getModuleLogic("DanteTrainer"))


def hastened(logic):
    logic._timer.setInterval(50)
    return logic


def until(slicer, condition, seconds=180):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.01)
    assert condition(), "it did not happen in time"


def readme_lines(module_name):
    """The README's code block that gets a module's logic."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^    .*\n)+", text, flags=re.MULTILINE)
    found = [block for block in blocks if f'getModuleLogic("{module_name}")' in block]
    assert len(found) == 1
    return re.sub(r"^    ", "", found[0], flags=re.MULTILINE)


def test_module_without_widget_class_has_no_logic_in_slicer(slicer, tmp_path):
    (tmp_path / "Bare.py").write_text(
        "from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleLogic\n"
        "class Bare(ScriptedLoadableModule): pass\n"
        "class BareLogic(ScriptedLoadableModuleLogic): pass\n"
    )
    slicer.app.load_module(tmp_path / "Bare.py")
    for get in (slicer.util.getModuleLogic, slicer.util.getModuleWidget):
        with pytest.raises(RuntimeError, match="Could not find module widget representation with name 'Bare'"):
            get("Bare")


def test_readme_training_starts_makes_steps_and_is_stopped(slicer, data, tmp_path, capsys):
    run = tmp_path / "run"
    lines = readme_lines("DanteTrainer").replace("/data/BraTS2021", str(data)).replace("/runs/mine", str(run))
    space, printed = {"slicer": slicer}, []
    exec(lines, space)

    def output():
        printed.append(capsys.readouterr().out)
        return "".join(printed)

    until(slicer, lambda: "state='starting'" in output())
    until(slicer, lambda: re.search(r"state='running'.*step=[1-9]", output()))
    start = time.monotonic()
    assert space["trainer"].stop(run).state == "running" and time.monotonic() - start < 0.5
    until(slicer, lambda: "state='stopped'" in output())
    assert space["trainer"].runs()[run.resolve()].state == "stopped"


def test_readme_segmentation_is_a_node(slicer, window):
    nodes = add_study(slicer)
    space = {"slicer": slicer, **{f"{modality}Node": node for modality, node in nodes.items()}}
    exec(readme_lines("DanteSegmenter"), space)
    assert space["segmentation"].IsA("vtkMRMLSegmentationNode")


def self_test():
    return sys.modules["DanteTrainer"].DanteTrainerTest


@pytest.mark.parametrize("name", ["test_finishedTrainingIsEvaluatedAndSegments", "test_unknownMethodIsReported"])
def test_part_of_the_self_test_passes(slicer, name):
    test = self_test()()
    test.setUp()
    try:
        getattr(test, name)()
    finally:
        test.tearDown()


def test_self_test_installs_nothing(slicer, monkeypatch, caplog):
    """PyTorch's extension asks nobody in testing mode: it would install gigabytes where extensions are built."""
    import PyTorchUtils

    from DanteSlicerLib import requirements

    monkeypatch.setattr(requirements, "installed_version", lambda name: None if name == "torch" else "99")
    monkeypatch.setattr(type(slicer.app), "testingEnabled", lambda app: True)
    monkeypatch.setattr(PyTorchUtils.PyTorchUtilsLogic, "installTorch", lambda *_, **__: pytest.fail("it installs"))
    slicer.selfTests["DanteTrainer"](msec=0)
    assert "not installed: torch>=2.5; training was not tested" in caplog.text


def test_self_test_recognises_its_training_behind_a_linked_temporary_folder(slicer, tmp_path, monkeypatch):
    """As on macOS: otherwise a training goes on, in a folder that is gone, after a part that has failed."""
    from DanteTrainerLib.status import RunStatus

    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    monkeypatch.setattr(tempfile, "tempdir", str(link))
    test = self_test()()
    test.setUp()
    monkeypatch.setattr(test.logic, "runs", lambda: {Path(test.folder.name).resolve() / "run": RunStatus("running")})
    assert test.isActive()
    test.folder.cleanup()


def test_reloaded_module_stops_following_and_its_training_continues(slicer, logic, data, tmp_path):
    statuses = []
    run = logic.start("lower", data, tmp_path / "run", self_test().LONG, device="cpu")
    logic.follow(run, statuses.append)
    until(slicer, lambda: statuses)
    slicer.util.reloadScriptedModule("DanteTrainer")
    statuses.clear()
    fresh, after = hastened(slicer.util.getModuleLogic("DanteTrainer")), []
    assert fresh is not logic
    fresh.follow(run, after.append)
    until(slicer, lambda: after and after[-1].step > 0)
    fresh.stop(run)
    until(slicer, lambda: after[-1].state == "stopped")
    assert not statuses


def test_invalid_run_is_refused_and_a_vanished_one_no_longer_followed(slicer, logic, tmp_path, caplog):
    import shutil

    from DanteSegmenterLib.errors import InputError
    from DanteTrainerLib.status import RUN_FILE, RunStatus, write_status

    statuses = []
    with pytest.raises(InputError, match="is no run folder"):
        logic.follow(tmp_path / "nowhere", statuses.append)
    run = tmp_path / "run"
    run.mkdir()
    (run / RUN_FILE).write_text("{}")
    write_status(run, RunStatus("starting"))
    logic.follow(run, statuses.append)
    until(slicer, lambda: statuses)
    shutil.rmtree(run)
    until(slicer, lambda: "is no run folder" in caplog.text)
    caplog.clear()
    end = time.monotonic() + 0.5
    until(slicer, lambda: time.monotonic() > end)
    assert not caplog.text
