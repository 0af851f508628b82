"""The window in Slicer's module panel on a laptop: 450 x 700 pixels, measured."""

from dataclasses import replace
from pathlib import Path

import pytest
from immediate_runs import ImmediateInference, at_once
from slicer_window import NAMES, FakeRun, add_study, add_volume, shown

WIDTH = 450
LONG_PATH = "/home/a radiologist with a long name/some archive of models/of_2026/without_contrast_and_with_it/model"
# As long as the notes of a run on a raw study.
NOTES = (
    "t2 was moved by 17.3 mm and 4.2 degrees.",
    "flair was moved by 12.9 mm and 3.9 degrees.",
    "The brain was extracted by deepbet: 1423 mL.",
    "Slices are up to 5.0 mm thick: small parts are blurred, and the model learned on 1 mm volumes.",
    "Enhancing tumour is unreliable: on 17 test cases 22% of what this model marked was right.",
    "Take the probabilities with care: on 17 test cases this model was too sure (Whole tumour 93% sure and 71% right, "
    "Tumour core 81% sure and 36% right, Enhancing tumour 73% sure and 22% right).",
)
WARNING = (
    "WARNING: 3: AX T1, 4: AX T2, 6: AX FLAIR shows more than a brain (skull, or air that is not 0). The model knows "
    "brains without skull only; do not rely on this result. Prepare the study first."
)


@pytest.fixture
def window(slicer, module, brain_model_folder):
    """The window over an empty scene with the embedded models and a fake run."""
    widget = slicer.util.getModuleWidget("DanteSegmenter")
    widget.logic = module.DanteSegmenterLogic(ImmediateInference(FakeRun()), embeddedModels=brain_model_folder.parent)
    slicer.mrmlScene.Clear(0)
    widget.parent.enter()
    with at_once(widget):
        yield widget
    widget.parent.exit()
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()


@pytest.fixture
def panel(window):
    from slicer.panel import ModulePanel

    panel = ModulePanel(window.parent)
    panel.settle()
    yield panel
    panel.release()


def answer(window, *notes):
    """Let the fake run finish with these notes."""
    run = window.logic.inference.run

    def with_notes(*arguments):
        result = run(*arguments)
        return replace(result, report=replace(result.report, notes=notes))

    window.logic.inference.run = with_notes


def row_heights(panel):
    from PySide6 import QtWidgets

    kinds = (QtWidgets.QComboBox, QtWidgets.QCheckBox, QtWidgets.QPushButton, QtWidgets.QToolButton)
    rows = [row for kind in kinds for row in panel._module.findChildren(kind) if row.isVisibleTo(panel)]
    assert len(rows) > 6
    return {row.property("objectName") or n: row.height() for n, row in enumerate(rows)}


@pytest.mark.parametrize("shown_text", ["nothing", "status", "path", "names", "folders", "missing model"])
def test_panel_width_does_not_depend_on_messages(slicer, window, panel, shown_text):
    add_study(slicer)
    if shown_text == "status":
        window.status.show("A sentence that goes on and on and says what was done to each of the volumes. " * 5)
    elif shown_text == "path":
        window.status.show(f"'{LONG_PATH}/model.json' is not valid JSON.")
    elif shown_text == "names":
        node = add_volume(slicer, "Anonymised_for_teaching_2026_AX_T1_MPRAGE_3D_SAG_ISO_WITH_A_NAME_FROM_THE_SCANNER")
        window.inputsPanel.selectors["t1"].setCurrentNode(node)
    elif shown_text == "folders":
        window.ui.batchCollapsibleButton.collapsed = False
        window.ui.batchSourceSelector.setCurrentIndex(window.severalStudies.FOLDER)
        window.severalStudies.folder = window.severalStudies.out = Path(LONG_PATH)
        window.severalStudies.refresh()
    elif shown_text == "missing model":
        window.choices.parameters.model = LONG_PATH
        window.modelPanel.updateModels()
    panel.settle()
    width = panel.width()
    window.severalStudies.folder = window.severalStudies.out = None
    window.ui.batchSourceSelector.setCurrentIndex(window.severalStudies.SCENE)
    window.ui.batchCollapsibleButton.collapsed = True
    assert width == WIDTH


def test_a_row_that_is_not_for_now_is_not_seen_when_the_panel_is_shown(slicer, window, panel):
    assert not shown(window.ui.maskFrame, window) and shown(window.ui.sampleLabel, window)
    add_study(slicer)
    panel.hide()
    panel.settle()
    assert not shown(window.ui.maskFrame, window) and not shown(window.ui.sampleLabel, window)


def test_segment_and_status_are_in_view_before_a_run(slicer, window, panel):
    assert panel.in_view(window.ui.segmentButton) and panel.in_view(window.ui.statusLabel)
    add_study(slicer, NAMES)
    window.choices.parameters.prepare = True
    panel.settle()
    assert panel.in_view(window.ui.segmentButton)
    window.choices.parameters.prepare = False


def test_progress_and_cancel_are_in_view_during_a_run(slicer, window, panel):
    add_study(slicer, NAMES)
    window.choices.parameters.prepare = True
    window.runPanel.started()
    window.status.show("Aligning 6: AX FLAIR (3 s)")
    panel.settle()
    seen = [panel.in_view(getattr(window.ui, name)) for name in ("segmentButton", "progressBar", "cancelButton")]
    status_in_view = panel.in_view(window.ui.statusLabel)
    window.runPanel.idle()
    window.choices.parameters.prepare = False
    assert seen == [True] * 3 and status_in_view


@pytest.mark.parametrize("notes", [(), NOTES, (WARNING, *NOTES)], ids=["no notes", "notes", "a warning and notes"])
def test_status_and_table_are_in_view_after_a_run(slicer, window, panel, notes):
    add_study(slicer, NAMES)
    answer(window, *notes)
    window.ui.segmentButton.click()
    panel.settle()
    assert panel.in_view(window.ui.segmentButton) and panel.in_view(window.ui.statusLabel)
    assert window.ui.volumesTable.rowCount == 3 and panel.in_view(window.ui.volumesTable)


def test_rarely_used_sections_are_folded_and_follow_the_table(slicer, window, panel):
    from PySide6 import QtCore

    add_study(slicer)
    window.ui.segmentButton.click()
    panel.settle()

    def top(name):
        return getattr(window.ui, name).mapTo(panel._contents, QtCore.QPoint(0, 0)).y()

    folded = ("optionsCollapsibleButton", "batchCollapsibleButton", "aboutCollapsibleButton")
    assert all(getattr(window.ui, name).collapsed for name in folded)
    names = ("inputsCollapsibleButton", "segmentButton", "statusLabel", "volumesTable", *folded)
    tops = [top(name) for name in names]
    assert tops == sorted(tops)


def test_rows_keep_their_height_when_prepare_is_toggled(slicer, window, panel):
    add_study(slicer, NAMES)
    heights = []
    for ticked in (True, False, True):
        window.ui.prepareCheckBox.checked = ticked
        panel.settle()
        heights.append(row_heights(panel))
    window.ui.prepareCheckBox.checked = False
    assert heights[0] == heights[2]
    assert min(heights[2].values()) >= 18


def test_warning_is_directly_below_segment_with_colour_and_icon(
    slicer,
    window,
    panel,
):
    from PySide6 import QtCore

    add_study(slicer)
    answer(window, "t2 was moved by 1.0 mm and 0.1 degrees.", WARNING)
    window.ui.segmentButton.click()
    panel.settle()
    label = window.ui.warningLabel
    assert panel.in_view(label) and label.text == WARNING.removeprefix("WARNING: ")
    assert "background" in window.ui.warningFrame.styleSheet and not window.ui.warningIcon.pixmap().isNull()
    assert "WARNING" not in window.ui.statusLabel.text + window.ui.notesLabel.text

    def top(widget):
        return widget.mapTo(panel, QtCore.QPoint(0, 0)).y()

    assert top(window.ui.segmentButton) < top(label) < top(window.ui.statusLabel)


def test_warning_frame_is_hidden_without_a_warning(slicer, window, panel):
    add_study(slicer)
    answer(window, "t2 was moved by 1.0 mm and 0.1 degrees.")
    window.ui.segmentButton.click()
    assert not window.ui.warningFrame.isVisibleTo(window.parent)
    assert window.ui.statusLabel.text == "Done in 1.2 s on Processor (CPU)."
    assert window.ui.notesLabel.text == "t2 was moved by 1.0 mm and 0.1 degrees."
