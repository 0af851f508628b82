"""User actions during an installation: Slicer processes events after every line of pip's output."""

from __future__ import annotations

import os
import sys
import types

import pytest
from datasets import write_case
from slicer_window import FakeRun, add_study, shown

from DanteSegmenterLib.errors import Cancelled, DanteError, ResourceError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell script stands for PythonSlicer")


class OneRun:
    """Replaces `worker.client.WorkerClient`: one run at a time, finished at the first poll."""

    def __init__(self, run):
        self.run = run
        self.runs = 0
        self.running = self.cancelled = False

    def begin(self, folder, volumes, device, options, brainMask, host):
        if self.running:
            raise ResourceError("A segmentation is running already. Wait for it, or cancel it.")
        self.runs += 1
        self.running, self.cancelled = True, False
        self._asked = (folder, volumes, device)

    def poll(self):
        if not self.running:
            return None, None
        self.running = False
        try:
            if self.cancelled:
                raise Cancelled("Stopped; nothing was changed.")
            return None, self.run(*self._asked, lambda progress: None)
        except DanteError as error:
            return None, error

    def cancel(self):
        self.cancelled = self.running

    def close(self):
        self.running = False


@pytest.fixture
def client(module, window, model_folder):
    """The window's inference including the installation of packages; nothing is computed."""
    inference = module.WarmInference()
    inference._client = OneRun(FakeRun())
    window.logic = module.DanteSegmenterLogic(inference, embeddedModels=model_folder.parent)
    window.modelPanel.updateModels()
    return inference._client


@pytest.fixture
def installer(slicer, module, monkeypatch, tmp_path):
    """torch is missing, and a PythonSlicer that prints like pip "installs" it.

    meanwhile: the user's action during the output. offline: pip fails while this file exists.
    asked: the questions that the user confirmed. installations: returns the requests to PythonSlicer.
    """
    import qt

    from DanteSlicerLib import requirements

    state = types.SimpleNamespace(meanwhile=lambda: None, asked=[], offline=tmp_path / "offline")
    done, log, program = tmp_path / "installed", tmp_path / "commands", tmp_path / "bin" / "PythonSlicer"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> "{log}"\necho Collecting\n'
        f'test -e "{state.offline}" && exit 1\necho Downloading\ntouch "{done}"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delitem(sys.modules, "PyTorchUtils", raising=False)
    known = requirements.installed_version
    monkeypatch.setattr(
        requirements, "installed_version", lambda name: known(name) if name != "torch" or done.exists() else None
    )

    def agree(text, *arguments, **options):
        state.asked.append(text)
        qt.QTimer.singleShot(0, state.meanwhile)
        return True

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", agree)
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, *a, **o: pytest.fail(f"a dialog: {text}"))
    state.installations = lambda: log.read_text().splitlines() if log.exists() else []
    return state


INSTALLATION = ["-m light_the_torch install torch>=2.5 torchvision"]


def results(slicer):
    return slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")


def test_second_click_during_the_installation_does_nothing_and_the_run_completes(slicer, window, client, installer):
    add_study(slicer)
    seen = []

    def again():
        seen.append((window.ui.segmentButton.enabled, window.ui.batchButton.enabled, window.ui.statusLabel.text))
        window.ui.segmentButton.click()
        window.runPanel.onSegment()  # like a click already queued when the button was disabled
        window.ui.batchButton.click()

    installer.meanwhile = again
    window.ui.segmentButton.click()
    assert seen == [(False, False, "Starting...")]
    assert len(installer.asked) == 1 and installer.installations() == INSTALLATION
    assert client.runs == 1 and results(slicer) == 1
    assert window.ui.statusLabel.text.startswith("Done in") and window.ui.segmentButton.enabled
    window.ui.segmentButton.click()
    assert client.runs == 2 and window.ui.statusLabel.text.startswith("Done in")


def test_failed_installation_is_one_sentence_and_the_next_click_retries(slicer, window, client, installer, monkeypatch):
    add_study(slicer)
    dialogs = []
    monkeypatch.setattr(
        slicer.util, "errorDisplay", lambda text, *arguments, **options: dialogs.append((text, options))
    )
    installer.offline.touch()
    window.ui.segmentButton.click()
    [(text, options)] = dialogs
    assert text == window.ui.statusLabel.text and not options.get("detailedText")
    assert text.startswith("PyTorch was not installed; segmenting needs it. Command ")
    assert text.endswith(
        "returned non-zero exit status 1. To install it by hand, behind a proxy or from a folder of "
        'wheels, run: PythonSlicer -m pip install "torch>=2.5"'
    )
    installer.offline.unlink()
    window.ui.segmentButton.click()
    assert installer.installations() == 2 * INSTALLATION and results(slicer) == 1


def test_choice_changed_during_the_installation_does_not_enable_the_buttons(slicer, window, client, installer):
    add_study(slicer)
    seen = []

    def choose():
        window.choices.parameters.mirror = True
        window.parent.exit()
        window.parent.enter()
        seen.append((window.ui.segmentButton.enabled, window.ui.batchButton.enabled, window.ui.statusLabel.text))

    installer.meanwhile = choose
    window.ui.segmentButton.click()
    assert seen == [(False, False, "Starting...")] and client.runs == 1 and results(slicer) == 1
    window.choices.parameters.mirror = False


def test_closing_the_scene_during_the_installation_stops_the_run_and_the_next_click_works(
    slicer, window, client, installer
):
    add_study(slicer)
    seen = []

    def close():
        slicer.mrmlScene.Clear(0)
        nodes = add_study(slicer)
        for modality, node in nodes.items():
            window.choices.parameters.setInputVolume(modality, node)
        window.ui.segmentButton.click()
        seen.append((window.ui.segmentButton.enabled, window.runner.running))

    installer.meanwhile = close
    window.ui.segmentButton.click()
    assert seen == [(False, True)]  # two concurrent pips would break each other's work
    assert installer.installations() == INSTALLATION
    assert not client.running and not window.runner.running and results(slicer) == 0
    assert window.ui.segmentButton.enabled and not shown(window.ui.cancelButton, window)
    window.ui.segmentButton.click()
    assert results(slicer) == 1 and window.ui.statusLabel.text.startswith("Done in")


def test_reload_during_the_installation_prevents_the_run(slicer, window, client, installer):
    add_study(slicer)
    installer.meanwhile = lambda: slicer.util.reloadScriptedModule("DanteSegmenter")
    window.ui.segmentButton.click()
    assert not client.running and not window.runner.running and results(slicer) == 0


def test_several_studies_stopped_during_the_installation_are_not_segmented(slicer, module, window, client, installer):
    for name in ("one", "two"):
        module.makeStudy("patient", name, list(add_study(slicer, prefix=f"{name} ").values()))
    slicer.app.processEvents()
    window.severalStudies.refresh()
    installer.meanwhile = window.ui.batchButton.click  # its text is "Stop"
    window.ui.batchButton.click()
    slicer.app.processEvents()
    assert not window.severalStudies.running and not client.running and results(slicer) == 0
    assert window.ui.batchButton.text == "Segment all" and not window.runner.running
    states = [window.ui.batchTable.item(row, 1).text() for row in range(2)]
    assert states == ["Stopped; nothing was changed.", "will run"]


class FakeProcess:
    """Replaces `batch.process.BatchProcess`: computes nothing, and runs until it is stopped."""

    started: list[tuple] = []

    def __init__(self, *arguments):
        self.started.append(arguments)
        self.running = True

    def rows(self):
        return []

    def stop(self):
        self.running = False


@pytest.fixture
def folder(window, client, tmp_path, monkeypatch):
    """A folder of cases is chosen; returns the list of started processes."""
    monkeypatch.setattr("DanteSegmenterLib.batch.process.BatchProcess", FakeProcess)
    monkeypatch.setattr(FakeProcess, "started", [])
    write_case(tmp_path / "cases" / "A", seed=1)
    panel = window.severalStudies
    panel.folder, panel.out = tmp_path / "cases", tmp_path / "results"
    window.ui.batchSourceSelector.setCurrentIndex(panel.FOLDER)
    yield FakeProcess.started
    panel.close()
    window.ui.batchSourceSelector.setCurrentIndex(panel.SCENE)
    panel.folder = panel.out = None


def test_nothing_else_starts_during_the_installation_for_a_folder(slicer, window, client, installer, folder):
    add_study(slicer)
    assert window.ui.segmentButton.enabled and window.ui.batchButton.enabled
    seen = []

    def again():
        seen.append((window.ui.segmentButton.enabled, window.ui.batchButton.enabled))
        for button in (window.ui.batchButton, window.ui.segmentButton):
            button.click()
        window.severalStudies.onButton()
        window.runPanel.onSegment()

    installer.meanwhile = again
    window.ui.batchButton.click()
    assert seen == [(False, False)] and installer.installations() == INSTALLATION
    assert len(folder) == 1 and client.runs == 0
    assert window.ui.batchButton.enabled and window.ui.batchButton.text == "Stop"
    assert not window.ui.segmentButton.enabled
    window.ui.batchButton.click()
    assert not window.severalStudies.running and window.ui.segmentButton.enabled and window.ui.batchButton.enabled


def test_folder_uses_the_choices_made_before_leaving_the_module(slicer, window, installer, folder, tmp_path):
    def elsewhere():
        window.choices.parameters.device = type(window.choices.parameters.device).CPU
        window.severalStudies.out = tmp_path / "other"
        window.parent.exit()

    model = window.choices.model.folder
    installer.meanwhile = elsewhere
    window.ui.batchButton.click()
    assert [arguments[:4] for arguments in folder] == [(tmp_path / "cases", model, tmp_path / "results", "auto")]


def test_closing_the_scene_during_the_installation_for_a_folder_stops_it(slicer, window, client, installer, folder):
    seen = []

    def close():
        slicer.mrmlScene.Clear(0)
        add_study(slicer)
        seen.append((window.ui.segmentButton.enabled, window.ui.batchButton.enabled))

    installer.meanwhile = close
    window.ui.batchButton.click()
    assert seen == [(False, False)] and folder == [] and not window.severalStudies.running
    assert window.ui.segmentButton.enabled and window.ui.batchButton.enabled
    window.ui.batchButton.click()
    assert len(folder) == 1 and window.ui.batchButton.text == "Stop"


def test_folder_with_declined_packages_is_not_started_and_the_reason_stays(
    slicer, window, installer, folder, monkeypatch
):
    add_study(slicer)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *arguments, **options: False)
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda *arguments, **options: None)
    window.ui.batchButton.click()
    assert window.ui.statusLabel.text.startswith("PyTorch was not installed; segmenting needs it.")
    assert folder == [] and window.ui.batchButton.enabled and window.ui.segmentButton.enabled
    assert window.ui.batchButton.text == "Segment all"


def test_segment_all_of_a_folder_waits_for_a_run(slicer, window, client, folder):
    add_study(slicer)
    seen = []
    run = client.run
    client.run = lambda *arguments: seen.append(window.ui.batchButton.enabled) or run(*arguments)
    window.ui.segmentButton.click()
    assert seen == [False] and window.ui.batchButton.enabled


@pytest.mark.parametrize("prepare", [True, False])
def test_a_folder_that_is_to_be_prepared_asks_for_what_finds_the_brain(window, folder, monkeypatch, prepare):
    asked = []
    panel = "DanteSlicerLib.window.panels.several_studies_panel"
    monkeypatch.setattr(f"{panel}.ensurePackages", lambda wanted, use="": None)
    monkeypatch.setattr(f"{panel}.ensureBrainFinder", lambda: asked.append(1), raising=False)
    window.choices.parameters.prepare = prepare
    window.ui.batchButton.click()
    assert len(asked) == prepare and len(folder) == 1
