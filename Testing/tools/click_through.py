"""Uses the modules like a researcher, click by click; the same file runs in Slicer and on the stand-in.

Apart from the modules' own windows, only documented functions of Slicer are called. Not to be imported: Slicer runs it,

    Slicer --testing --additional-module-paths DanteSegmenter DanteTrainer --python-script click_through.py

and `Testing/tools/in_slicer.py` runs it with everything it needs. The environment variable DANTE_OUT names the
folder for junit.xml, a picture after every step, and the training's files, in work/.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import qt
import slicer

WAIT_SECONDS = 180.0
CANCEL_SECONDS = 2.0
AT_ONCE_SECONDS = 1.0
WATCH_MS = 20
# Time for deferred work: redrawing views, filling boxes. The stand-in defers much less.
LIVE_SECONDS = float(os.environ.get("DANTE_LIVE_SECONDS", "0.3"))
PANEL = (450, 900)
# The sample patient has 1 mm voxels; further patients need not.
SPACING_MM = 2.0
MARGIN_MM = 3.0


class Skipped(Exception):
    """This Slicer lacks what a step needs, named by the message."""


def until(condition, seconds=WAIT_SECONDS, what=""):
    """Process events until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not happen in {seconds:g} s: {what}"
        slicer.app.processEvents()
        time.sleep(0.005)


def live(seconds=LIVE_SECONDS):
    """Process events for a while, so that deferred work is done."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end)


def equal(got, wanted):
    assert got == wanted, f"got {got!r}, wanted {wanted!r}"


class Watch:
    """Measures the longest time that the window was unresponsive, by a timer."""

    def __init__(self):
        self._timer = qt.QTimer()
        self._timer.setInterval(WATCH_MS)
        self._timer.timeout.connect(self._tick)
        self.start()
        self._timer.start()

    def start(self):
        self.longest, self._last = 0.0, time.monotonic()

    def _tick(self):
        now = time.monotonic()
        self.longest, self._last = max(self.longest, now - self._last), now


class ClickThrough:
    """The steps, in the order of the methods; each continues with the scene of the previous one."""

    def __init__(self, folder):
        self.folder = folder
        self.widget = self.output = None
        self.first, self.second = {}, {}

    # User actions

    def open(self, name):
        """Choose a module in the list; without a main window, enter its panel as the list does."""
        if slicer.util.mainWindow() is not None:
            slicer.util.selectModule(name)
        elif self.widget is not None:
            self.widget.parent.exit()
        widget = slicer.util.getModuleWidget(name)
        if slicer.util.mainWindow() is None:
            widget.parent.enter()
        live()
        return widget

    def choose(self, nodes):
        """Choose volumes box by box; other boxes are emptied."""
        for modality, box in self.boxes().items():
            box.setCurrentNode(nodes.get(modality))
        live()

    def segment(self):
        """Click Segment and wait for the result."""
        assert self.ui.segmentButton.enabled, self.ui.segmentButton.toolTip
        self.ui.segmentButton.click()
        until(
            lambda: not self.widget.runner.running,
            what="the segmentation; the window says: " + self.ui.statusLabel.text,
        )
        live()
        output = self.ui.outputSelector.currentNode()
        assert output is not None, self.ui.statusLabel.text
        return output

    def delete(self, node):
        slicer.mrmlScene.RemoveNode(node)
        live()

    # What the user sees

    @property
    def ui(self):
        return self.widget.ui

    def boxes(self):
        """The boxes of the inputs by modality id."""
        return self.widget.inputsPanel.selectors

    def chosen(self):
        return {modality: box.currentNode() for modality, box in self.boxes().items() if box.currentNode()}

    def cells(self, table, column):
        return [table.item(row, column).text() for row in range(table.rowCount)]

    def voxels(self, output, reference):
        """The number of voxels in each segment, outermost first."""
        segmentation = output.GetSegmentation()
        ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
        return [int((slicer.util.arrayFromSegmentBinaryLabelmap(output, i, reference) > 0).sum()) for i in ids]

    def seen(self, output):
        return bool(output.GetDisplayVisibility())

    def backgrounds(self):
        """The names of the volumes in the slice views."""
        views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        nodes = {slicer.mrmlScene.GetNodeByID(view.GetBackgroundVolumeID() or "") for view in views}
        return {node.GetName() for node in nodes if node}

    def needs(self, *packages):
        """Skip a step whose packages are missing; tests install nothing."""
        from DanteSlicerLib import requirements

        missing = requirements.missing(list(packages))
        if missing:
            raise Skipped(f"not installed in this Slicer: {', '.join(missing)}")

    def needsTorch(self):
        from DanteSlicerLib import requirements

        self.needs(requirements.TORCH, "safetensors")

    # Steps

    def step_01_the_module_opens_and_says_what_is_missing(self):
        self.widget = self.open("DanteSegmenter")
        assert not self.ui.segmentButton.enabled
        assert "T1" in self.ui.segmentButton.toolTip, self.ui.segmentButton.toolTip

    def step_02_the_sample_patient_is_loaded_and_its_boxes_are_filled(self):
        import SampleData

        registered = lambda: "DANTE" in getattr(slicer.modules, "sampleDataSources", {})  # noqa: E731
        with contextlib.suppress(AssertionError):
            until(registered, 5)
        if not registered():  # a script may run before the application has finished starting
            sys.modules["DanteSegmenter"].registerSampleData()
        source = SampleData.SampleDataLogic().sourceForSampleName("DanteBrainMR")
        self.first = dict(source.customDownloader(source))  # as its button does; by name, only addresses are downloaded
        live()
        wanted = {modality: node for modality, node in self.first.items() if modality != "t1ce"}
        chosen = {modality: node for modality, node in self.chosen().items() if modality != "t1ce"}
        equal(chosen, wanted)
        assert self.ui.segmentButton.enabled, self.ui.segmentButton.toolTip

    def step_03_the_contrast_t1_is_left_out_by_default(self):
        assert self.boxes()["t1ce"].currentNode() is None, "the contrast T1 is in its box"

    def step_04_cancel_ends_a_run_at_once_and_changes_nothing(self):
        self.needsTorch()
        before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
        self.choose({modality: node for modality, node in self.first.items() if modality != "t1ce"})
        self.ui.segmentButton.click()
        assert self.widget.runner.running and not self.ui.segmentButton.enabled
        live(0.5)
        assert self.widget.runner.running, "it was done before it could be cancelled"
        asked = time.monotonic()
        self.ui.cancelButton.click()
        until(lambda: not self.widget.runner.running)
        assert time.monotonic() - asked < CANCEL_SECONDS
        equal(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), before)
        assert self.ui.segmentButton.enabled and not self.ui.progressBar.visible

    def step_05_segment_finds_nested_regions_and_shows_them(self):
        self.needsTorch()
        self.output = self.segment()
        outer, core, inner = self.voxels(self.output, self.first["t1"])
        assert outer > core > inner > 0, (outer, core, inner)
        equal(self.ui.volumesTable.rowCount, 3)
        assert self.seen(self.output)
        assert self.ui.statusLabel.text.startswith("Done in"), self.ui.statusLabel.text

    def step_06_the_slices_still_show_the_volume_that_was_read(self):
        self.needsTorch()
        equal(self.backgrounds(), {self.first["flair"].GetName()})

    def step_07_the_3d_view_looks_at_the_result(self):
        self.needsTorch()
        camera = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCameraNode")
        if camera is None:
            raise Skipped("there is no 3D view")
        bounds = [0.0] * 6
        self.output.GetRASBounds(bounds)
        bounds, point = np.array(bounds), np.array(camera.GetFocalPoint())
        assert (bounds[::2] <= point).all() and (point <= bounds[1::2]).all(), f"it looks at {point}, not in {bounds}"

    def step_08_correcting_the_outer_segment_erases_none_inside_it(self):
        self.needsTorch()
        before = self.voxels(self.output, self.first["t1"])
        self.ui.editButton.click()
        live()
        editor = slicer.util.getModuleWidget("SegmentEditor").editor
        equal(editor.segmentationNode().GetID(), self.output.GetID())
        editor.setActiveEffectByName("Margin")
        effect = editor.activeEffect()
        effect.setParameter("MarginSizeMm", str(MARGIN_MM))
        effect.self().onApply()
        live()
        editor.setActiveEffectByName("")
        after = self.voxels(self.output, self.first["t1"])
        assert after[0] > before[0], (before, after)
        equal(after[1:], before[1:])

    def step_09_the_table_says_that_it_was_edited(self):
        self.needsTorch()
        self.open("DanteSegmenter")
        edited = lambda: [" edited" in text for text in self.cells(self.ui.volumesTable, 1)]  # noqa: E731
        until(lambda: edited() == [True, False, False], 10, str(self.cells(self.ui.volumesTable, 1)))

    def step_10_a_second_patients_result_hides_the_first_ones(self):
        self.needsTorch()
        self.second = sys.modules["DanteSegmenter"].loadSamplePatient(seed=1, spacingMm=SPACING_MM)
        live()
        self.choose({modality: node for modality, node in self.second.items() if modality != "t1ce"})
        output = self.segment()
        assert output.GetID() != self.output.GetID(), "it was written over the first patient's"
        assert self.seen(output) and not self.seen(self.output)
        self.second["result"] = output

    def step_11_one_click_brings_the_first_result_back(self):
        self.needsTorch()
        self.ui.outputSelector.setCurrentNode(self.output)
        live()
        assert self.seen(self.output) and not self.seen(self.second["result"])
        equal(self.boxes()["t1"].currentNode().GetID(), self.first["t1"].GetID())

    def step_12_a_deleted_volume_leaves_an_empty_box(self):
        self.choose({modality: node for modality, node in self.first.items() if modality != "t1ce"})
        self.delete(self.first.pop("t1"))
        equal(self.boxes()["t1"].currentNode(), None)
        assert not self.ui.segmentButton.enabled
        assert "T1" in self.ui.segmentButton.toolTip, self.ui.segmentButton.toolTip

    def step_13_a_deleted_result_makes_no_other_segmentation_the_output(self):
        self.needsTorch()
        theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn by the user")
        theirs.GetSegmentation().AddEmptySegment("mine", "mine")
        self.choose({modality: self.second[modality] for modality in ("t1", "t2", "flair")})
        equal(self.ui.outputSelector.currentNode().GetID(), self.second["result"].GetID())
        self.delete(self.second.pop("result"))
        equal(self.ui.outputSelector.currentNode(), None)
        equal(theirs.GetSegmentation().GetNumberOfSegments(), 1)

    def step_14_several_studies_get_a_result_each_and_one_is_shown(self):
        self.needsTorch()
        slicer.mrmlScene.Clear(0)
        live()
        for seed in (2, 3):
            sys.modules["DanteSegmenter"].loadSamplePatient(seed=seed, spacingMm=SPACING_MM)
        live()
        self.ui.batchCollapsibleButton.collapsed = False
        assert self.ui.batchButton.enabled, self.cells(self.ui.batchTable, 1)
        self.ui.batchButton.click()
        until(lambda: not self.widget.severalStudies.running, what="several studies")
        live()
        equal(self.cells(self.ui.batchTable, 1), ["done", "done"])
        results = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        equal(len(results), 2)
        equal([self.seen(result) for result in results].count(True), 1)
        assert self.ui.segmentButton.enabled, "Segment cannot be clicked any more"
        self.ui.batchCollapsibleButton.collapsed = True

    def step_15_a_closed_scene_empties_the_window(self):
        slicer.mrmlScene.Clear(0)
        live()
        assert not self.ui.segmentButton.enabled and not self.chosen()

    def step_16_reload_leaves_a_window_that_works(self):
        self.widget.onReload()
        self.widget = self.open("DanteSegmenter")
        sys.modules["DanteSegmenter"].loadSamplePatient(spacingMm=SPACING_MM)
        live()
        assert self.ui.segmentButton.enabled, self.ui.segmentButton.toolTip

    def step_17_a_training_from_the_console_makes_steps_is_stopped_and_goes_on(self):
        import DanteTrainer
        from DanteSlicerLib.requirements import read_requirements

        resources = Path(slicer.util.modulePath("DanteTrainer")).parent / "Resources"
        self.needsTorch()
        self.needs(*read_requirements(resources / "requirements-training.txt"))
        logic, statuses = slicer.util.getModuleLogic("DanteTrainer"), []
        steps = DanteTrainer.DanteTrainerTest.LONG  # a training with many tiny steps
        DanteTrainer.writeSyntheticDataset(self.folder / "data")
        start = time.monotonic()
        run = logic.start("lower", self.folder / "data", self.folder / "run", steps, device="cpu")
        assert time.monotonic() - start < AT_ONCE_SECONDS, "start kept the window waiting"
        logic.follow(run, statuses.append)
        until(lambda: statuses and statuses[-1].step > 0, what="the first step")
        start = time.monotonic()
        logic.stop(run)
        assert time.monotonic() - start < AT_ONCE_SECONDS, "stop kept the window waiting"
        until(lambda: statuses[-1].state == "stopped", what="the stop")
        step = statuses[-1].step
        logic.resume(run, device="cpu")
        statuses.clear()
        logic.follow(run, statuses.append)
        until(lambda: statuses and statuses[-1].step > step, what="steps after the resume")
        # It is left running: `in_slicer.py` checks that it exits with Slicer, after a checkpoint.


def picture(path):
    """Save a picture of the screen, or of the panel if there is no main window."""
    shown = slicer.util.mainWindow()
    if shown is None:
        shown = slicer.util.getModuleWidget("DanteSegmenter").parent
        shown.resize(*PANEL)
        live(0.05)
    with contextlib.suppress(Exception):  # a failed picture is no failure of the step
        shown.grab().toImage().save(str(path))


def run(out):
    """Run all steps; returns the suite for junit.xml."""
    suite = ElementTree.Element("testsuite", name="click-through")
    watch = Watch()
    story = ClickThrough(out / "work")
    for name in sorted(name for name in dir(story) if name.startswith("step_")):
        case = ElementTree.SubElement(suite, "testcase", classname="click-through", name=name)
        watch.start()
        start, outcome = time.monotonic(), "passed"
        try:
            getattr(story, name)()
        except Skipped as reason:
            outcome = f"skipped: {reason}"
            ElementTree.SubElement(case, "skipped", message=str(reason))
        except Exception as error:
            outcome = f"FAILED: {type(error).__name__}: {error}"
            ElementTree.SubElement(case, "failure", message=outcome).text = traceback.format_exc()
        seconds = time.monotonic() - start
        case.set("time", f"{seconds:.2f}")
        longest_gap = f"the window's longest gap was {1000 * watch.longest:.0f} ms"
        ElementTree.SubElement(case, "system-out").text = longest_gap
        print(f"{name} {outcome} ({seconds:.1f} s, {longest_gap})", flush=True)
        picture(out / f"{name}.png")
    cases = list(suite)
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    return suite


def main():
    """Returns 0 if no step failed."""
    out = Path(os.environ.get("DANTE_OUT", "click-through")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    suite = run(out)
    ElementTree.ElementTree(suite).write(out / "junit.xml", encoding="utf-8", xml_declaration=True)
    return 1 if suite.get("failures") != "0" else 0


if __name__ == "__main__":
    slicer.util.exit(main())
