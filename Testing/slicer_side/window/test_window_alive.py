"""The window while the real worker process computes: it stays responsive, can be cancelled, and survives failures."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from slicer_half import SlicerHalf

# The promised limits, and the interval of the watch.
MAX_GAP_SECONDS, CANCEL_SECONDS, TICK_MS = 0.15, 2.0, 20
RUN_SECONDS = 180


@pytest.fixture(scope="module")
def models(brain_model_folder):
    """The embedded models: a network with random weights would find noise, with costly surfaces."""
    return brain_model_folder.parent


@pytest.fixture(scope="module")
def process():
    """The process behind the window, shared by the tests that keep it; `process()` creates another after a reload."""
    kept = []

    def current():
        if not kept or type(kept[-1]) is not SlicerHalf().WarmInference:
            kept.append(SlicerHalf().WarmInference())
        return kept[-1]

    yield current
    for one in kept:
        one.close()


@pytest.fixture
def window(slicer, models, process):
    """The open window with a loaded study and the real worker process."""
    module = SlicerHalf()
    widget = slicer.util.getModuleWidget("DanteSegmenter")
    widget.logic = module.DanteSegmenterLogic(process(), embeddedModels=models)
    slicer.mrmlScene.Clear(0)
    widget.parent.enter()
    module.loadSamplePatient(spacingMm=2.0)
    slicer.app.processEvents()
    yield widget
    widget = slicer.util.getModuleWidget("DanteSegmenter")
    widget.parent.exit()
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()


class Watch:
    """A timer of 20 ms in the window's event loop that records its longest delay."""

    def __init__(self):
        from PySide6 import QtCore

        self.gap, self._last = 0.0, time.monotonic()
        self._timer = QtCore.QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(TICK_MS)

    def _tick(self):
        now = time.monotonic()
        self.gap, self._last = max(self.gap, now - self._last), now


def until(condition, seconds=RUN_SECONDS):
    """Process events until the condition holds."""
    from PySide6 import QtCore

    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        QtCore.QCoreApplication.processEvents(QtCore.QEventLoop.AllEvents, 50)
        time.sleep(0.001)
    assert condition(), "it did not happen in time"


def begin(window):
    window.ui.segmentButton.click()
    assert window.runner.running and not window.ui.segmentButton.enabled


def segmentations(slicer):
    return slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")


def client(window):
    return window.logic.inference._client


def warm_up(window):
    begin(window)
    until(lambda: not window.runner.running)


def gone(pid):
    try:
        os.kill(pid, 0)
    except OSError:
        return True
    # A zombie has exited; its parent has not collected it yet.
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"


def test_window_stays_responsive_and_shows_progress(slicer, window):
    window.logic.inference.close()  # the first click starts a process
    updates = []
    show = window.runPanel.progressed
    window.runPanel.progressed = lambda progress: (updates.append((time.monotonic(), progress)), show(progress))
    try:
        for _click in range(2):
            begin(window)
            watch, start = Watch(), time.monotonic()
            window.ui.segmentButton.click()  # a second click while running is impossible
            until(lambda: not window.runner.running)
            assert watch.gap < MAX_GAP_SECONDS
            times = [start, *(when for when, _ in updates if when >= start), time.monotonic()]
            assert max(b - a for a, b in zip(times, times[1:])) < 1.0
    finally:
        window.runPanel.progressed = show
    assert segmentations(slicer) == 1 and window.ui.segmentButton.enabled
    assert {progress.phase for _, progress in updates} >= {"start", "network", "restore"}
    assert window.ui.statusLabel.text.startswith("Done in")


@pytest.mark.parametrize(
    "after", [*(pytest.param(seconds, marks=pytest.mark.slow) for seconds in (0.0, 0.3)), "started", "network"]
)
def test_cancel_stops_the_run_within_two_seconds_and_changes_nothing(slicer, window, after):
    if after != "network":
        window.logic.inference.close()
    else:
        warm_up(window)
        slicer.mrmlScene.RemoveNode(window.choices.output())
        window.choices.parameters.mirror = True
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    begin(window)
    if isinstance(after, float):
        end = time.monotonic() + after
        until(lambda: time.monotonic() >= end)
    else:
        wanted = {"started": lambda: client(window).pid, "network": lambda: window.ui.progressBar.value > 10}[after]
        until(wanted)
    window.ui.cancelButton.click()
    asked = time.monotonic()
    until(lambda: not window.runner.running)
    assert time.monotonic() - asked < CANCEL_SECONDS
    assert window.ui.statusLabel.text == "Stopped; nothing was changed." and window.ui.segmentButton.enabled
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    window.choices.parameters.mirror = False
    warm_up(window)  # the next click works
    assert segmentations(slicer) == 1


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_process_is_reported_in_one_sentence_and_the_next_click_works(slicer, window, caplog):
    warm_up(window)
    slicer.mrmlScene.RemoveNode(window.choices.output())
    window.choices.parameters.mirror = True
    begin(window)
    until(lambda: window.ui.progressBar.value > 10)
    os.kill(client(window).pid, signal.SIGKILL)
    until(lambda: not window.runner.running, 5)
    assert "ended unexpectedly (it was killed, as a system does that runs out of memory)" in window.ui.statusLabel.text
    assert segmentations(slicer) == 0
    window.choices.parameters.mirror = False
    warm_up(window)
    assert segmentations(slicer) == 1


def test_process_is_kept_and_exits_with_the_module(slicer, window):
    warm_up(window)
    first = client(window).pid
    warm_up(window)
    assert client(window).pid == first
    slicer.util.reloadScriptedModule("DanteSegmenter")
    until(lambda: gone(first), 3)


def test_closing_the_scene_stops_the_run(slicer, window):
    begin(window)
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()
    assert not window.runner.running and not window.ui.segmentButton.enabled and segmentations(slicer) == 0


def test_deleted_volume_is_reported_and_nothing_changed(slicer, window):
    begin(window)
    slicer.mrmlScene.RemoveNode(window.choices.parameters.inputVolume("t1"))
    until(lambda: not window.runner.running)
    assert "deleted while it was segmented" in window.ui.statusLabel.text and segmentations(slicer) == 0


def test_result_arrives_while_another_module_is_shown(slicer, window):
    begin(window)
    window.parent.exit()
    until(lambda: not window.runner.running)
    assert segmentations(slicer) == 1
    window.parent.enter()
    assert window.choices.output() is not None


def test_probabilities_are_overlaid_on_request(slicer, window):
    module = SlicerHalf()
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    window.choices.parameters.showProbabilities = True
    for _click in range(2):
        warm_up(window)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == before + 3
    node = window.choices.output().GetNodeReference(module.PROBABILITY_ROLE + "WT")
    array = slicer.util.arrayFromVolume(node)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(
        window.choices.output(), "WT", window.choices.parameters.inputVolume("t1")
    )
    assert array.min() >= 0 and array.max() <= 1 and ((array > 0.5) == (mask > 0)).mean() > 0.999
    window.choices.parameters.showProbabilities = False


def test_whole_head_is_detected_and_prepare_offered(slicer, window):
    import numpy as np

    assert not window.ui.warningFrame.isVisibleTo(window.parent)
    node = window.choices.parameters.inputVolume("t2")
    slicer.util.updateVolumeFromArray(node, slicer.util.arrayFromVolume(node).astype(np.float32) + 5.0)
    window.updateGui()
    warned = window.ui.warningLabel
    assert warned.isVisibleTo(window.parent) and node.GetName() in warned.text and "Tick 'Prepare'" in warned.text
    window.choices.parameters.prepare = True
    assert not warned.isVisibleTo(window.parent)
    window.choices.parameters.prepare = False
    warm_up(window)
    assert "do not rely on this result" in warned.text and warned.isVisibleTo(window.parent)  # always with a warning
    window.choices.parameters.prepare = True
    assert "do not rely on this result" in warned.text  # about the displayed result
    window.choices.parameters.prepare = False


@pytest.mark.parametrize("kind", ["segmentation", pytest.param("label map", marks=pytest.mark.slow)])
def test_users_brain_mask_is_used_to_prepare(slicer, window, kind):
    """Of a head with skull; deepbet is then not needed."""
    import numpy as np

    slicer.mrmlScene.Clear(0)
    SlicerHalf().loadSamplePatient(spacingMm=4.0)  # aligning fewer voxels takes less time
    slicer.app.processEvents()
    t1 = window.choices.parameters.inputVolume("t1")
    brain = (slicer.util.arrayFromVolume(t1) > 0).astype(np.uint8)
    for modality in ("t1", "t2", "flair"):
        node = window.choices.parameters.inputVolume(modality)
        slicer.util.updateVolumeFromArray(node, slicer.util.arrayFromVolume(node).astype(np.float32) + 5.0)
    if kind == "segmentation":
        mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "my brain")
        mask.SetReferenceImageGeometryParameterFromVolumeNode(t1)
        mask.GetSegmentation().AddEmptySegment("brain", "brain")
        slicer.util.updateSegmentBinaryLabelmapFromArray(brain, mask, "brain", t1)
    else:
        matrix = SlicerHalf().worldIjkToRas(t1)
        mask = slicer.util.addVolumeFromArray(brain, matrix, "my brain", "vtkMRMLLabelMapVolumeNode")
    window.choices.parameters.prepare = True
    window.ui.maskSelector.setCurrentNode(mask)
    assert window.ui.maskFrame.isVisibleTo(window.parent) and window.choices.parameters.brainMask() is mask
    warm_up(window)
    assert (
        not window.ui.warningFrame.isVisibleTo(window.parent)
        and "'DanteBrainMR t2' was moved by" in window.ui.notesLabel.text
    )
    window.choices.parameters.prepare = False
    window.ui.preparedButton.click()
    shown = window.choices.output().GetNodeReference(SlicerHalf().BRAIN_ROLE)
    segment = shown.GetSegmentation().GetNthSegmentID(0)
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(shown, segment, t1), brain)
    found = slicer.util.arrayFromSegmentBinaryLabelmap(window.choices.output(), "WT", t1) > 0
    assert found.any() and not (found & (brain == 0)).any()
