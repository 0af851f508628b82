"""The window from the user's view: boxes, button, messages, models, table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from immediate_runs import ImmediateInference
from models import write_brain_model
from slicer_window import NAMES, FakeRun, add_study, add_volume, shown, until

from DanteSegmenterLib.options import SegmentOptions
from DanteSegmenterLib.result import Report

NNUNET_RESULTS = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def test_volumes_are_assigned_by_name_and_marked_as_guessed(slicer, window):
    nodes = add_study(slicer, NAMES)
    for modality, node in nodes.items():
        assert window.inputsPanel.selectors[modality].currentNode() is node
        assert shown(window.inputsPanel.guessLabels[modality], window)
    assert not shown(window.ui.sampleLabel, window)


def test_volume_with_a_meaningless_name_is_not_guessed(slicer, window):
    add_volume(slicer, "MRHead")
    assert window.choices.parameters.inputVolume("t1") is None
    assert not shown(window.inputsPanel.guessLabels["t1"], window)


def test_users_choice_is_kept_when_volumes_are_added(slicer, window):
    other = add_volume(slicer, "something")
    window.inputsPanel.selectors["t1"].setCurrentNode(other)
    nodes = add_study(slicer)
    assert window.choices.parameters.inputVolume("t1") is other
    assert window.choices.parameters.inputVolume("t2") is nodes["t2"]
    window.inputsPanel.selectors["t2"].setCurrentNode(None)
    add_volume(slicer, "9: COR T2")
    assert window.choices.parameters.inputVolume("t2") is None


def test_button_is_disabled_until_volumes_are_chosen_and_names_them(slicer, window):
    assert not window.ui.segmentButton.enabled
    assert window.ui.segmentButton.toolTip == "Choose the volumes for: T1, T2, FLAIR."
    add_study(slicer, ("t1", "t2"))
    assert window.ui.segmentButton.toolTip == "Choose the volumes for: FLAIR."
    assert window.ui.statusLabel.text == "Choose the volumes for: FLAIR."
    flair = add_volume(slicer, NAMES["flair"])
    assert window.ui.segmentButton.enabled
    window.inputsPanel.selectors["t2"].setCurrentNode(flair)
    assert not window.ui.segmentButton.enabled
    assert (
        window.ui.segmentButton.toolTip == "'6: AX FLAIR' is chosen for T2 and FLAIR; each needs a volume of its own."
    )


def test_button_is_disabled_when_an_input_is_deleted(slicer, window):
    nodes = add_study(slicer)
    slicer.mrmlScene.RemoveNode(nodes["t2"])
    slicer.app.processEvents()
    assert not window.ui.segmentButton.enabled
    assert "T2" in window.ui.segmentButton.toolTip


def test_button_explains_that_there_is_no_model(slicer, module, window, tmp_path):
    window.logic = module.DanteSegmenterLogic(ImmediateInference(FakeRun()), embeddedModels=tmp_path)
    window.enter()
    window.choices.parameters.model = ""
    window.modelPanel.updateModels()
    assert "There is no model" in window.ui.segmentButton.toolTip
    broken = write_brain_model(tmp_path / "broken")
    (broken / "model.json").write_text("{")
    window.modelPanel.updateModels()
    assert "not valid JSON" in window.ui.segmentButton.toolTip


def test_segment_shows_the_result_and_comes_to_rest(slicer, module, window):
    nodes = add_study(slicer)
    window.ui.segmentButton.click()
    (folder, volumes, device) = window.logic.inference.run.calls[0]
    assert set(volumes) == {"t1", "t2", "flair"} and device == "auto"
    assert volumes["t1"].name == NAMES["t1"]
    output = window.choices.parameters.outputSegmentation
    assert window.ui.outputSelector.currentNode() is output
    assert [window.ui.volumesTable.item(n, 0).text() for n in range(3)] == [
        "whole tumour",
        "tumour core",
        "enhancing tumour",
    ]
    # 12, 8 and 4 voxels of 6 mm3
    assert [window.ui.volumesTable.item(n, 1).text() for n in range(3)] == ["0.1", "0.0", "0.0"]
    assert window.ui.statusLabel.text == "Done in 1.2 s on Processor (CPU)." and window.ui.notesLabel.text == "A note."
    at_rest(slicer, window)
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        assert view.GetBackgroundVolumeID() == nodes["flair"].GetID()  # nothing was shown before


def test_result_is_written_one_label_map_or_surface_per_step(slicer, module, window):
    """All label maps at once blocked the window for 235 ms, and all surfaces for 185 ms."""
    nodes = add_study(slicer)
    job = window.logic.begin(nodes)
    _news, outcome = window.logic.inference.poll()
    closed = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()

    def made():
        segmentation = job.output.GetSegmentation()
        segments = [segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments())]
        return len(segments) + sum(segment.GetRepresentation(closed) is not None for segment in segments)

    seen = [0]
    for _step in window.logic.finish(job, outcome):
        seen.append(made())
    seen.append(made())
    assert max(after - before for before, after in zip(seen, seen[1:])) == 1
    assert seen[-1] == 6 and job.output.GetSegmentation().ContainsRepresentation(closed)


def at_rest(slicer, window):
    from PySide6 import QtWidgets

    assert window.ui.segmentButton.enabled
    assert not shown(window.ui.progressBar, window)
    assert QtWidgets.QApplication.overrideCursor() is None


def test_optional_volume_is_passed_if_present(slicer, window):
    add_study(slicer, NAMES)
    window.ui.segmentButton.click()
    assert set(window.logic.inference.run.calls[0][1]) == set(NAMES)


def test_volume_the_model_cannot_use_is_not_requested(slicer, module, window, tmp_path):
    write_brain_model(tmp_path / "limited only")
    window.logic = module.DanteSegmenterLogic(ImmediateInference(FakeRun()), embeddedModels=tmp_path)
    window.choices.parameters.model = ""
    window.modelPanel.updateModels()
    assert list(window.inputsPanel.selectors) == ["t1", "t2", "flair"]


def test_refusal_is_shown_verbatim_and_changes_nothing(slicer, module, window, caplog):
    from DanteSegmenterLib.errors import InputError

    window.logic.inference.run.error = InputError("'3: AX T1' holds 7 voxels that are NaN or infinite.")
    add_study(slicer)
    before = slicer.mrmlScene.GetNumberOfNodes()
    window.ui.segmentButton.click()
    assert window.ui.statusLabel.text == "'3: AX T1' holds 7 voxels that are NaN or infinite."
    assert "#c0392b" in window.ui.statusLabel.styleSheet
    assert "holds 7 voxels" in caplog.text
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    at_rest(slicer, window)


def test_unexpected_error_is_shown_with_its_cause(slicer, window):
    window.logic.inference.run.error = RuntimeError("CUDA out of memory")
    add_study(slicer)
    with pytest.raises(RuntimeError):
        window.runPanel.onSegment()
    assert window.ui.statusLabel.text == "The segmentation failed: CUDA out of memory"
    at_rest(slicer, window)


def test_bad_volumes_are_refused_by_node_name(slicer, module, window):
    from DanteSegmenterLib.errors import InputError
    from DanteSegmenterLib.inference import load_model, segment

    def run(folder, volumes, device, progress=None, cancelled=None):
        return segment(load_model(folder, "cpu"), volumes)

    logic = module.DanteSegmenterLogic(ImmediateInference(run), embeddedModels=window.logic._embeddedModels)
    nodes = {name: add_volume(slicer, name, (8, 9, 10)) for name in ("t1", "t2", "flair")}
    for name, array, message in (
        ("with holes", np.full((8, 9, 10), np.nan, np.float32), "'with holes' holds 720 voxels that are NaN"),
        ("one slice", np.ones((1, 9, 10), np.float32), r"'one slice' has shape \(1, 9, 10\)"),
        ("nothing in it", np.zeros((8, 9, 10), np.float32), "'nothing in it' is empty"),
    ):
        bad = slicer.util.addVolumeFromArray(array, np.diag([1.0, 2.0, 3.0, 1.0]), name)
        with pytest.raises(InputError, match=message):
            logic.segment({**nodes, "t2": bad})


def test_volumes_of_another_patient_deselect_the_result(slicer, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    first = window.choices.parameters.outputSegmentation
    others = add_study(slicer, prefix="b ")
    for modality, node in others.items():
        window.inputsPanel.selectors[modality].setCurrentNode(node)
    assert window.choices.parameters.outputSegmentation is None
    window.ui.segmentButton.click()
    assert window.choices.parameters.outputSegmentation is not first
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 2


def test_segments_of_another_model_replace_ours_in_a_chosen_output(slicer, module, window, tmp_path):
    import dataclasses

    from DanteSegmenterLib.model_folder import read_spec, write_spec

    nodes = add_study(slicer)
    output = window.logic.segment(nodes, progress=print)
    other = write_brain_model(tmp_path / "other")
    spec = read_spec(other)
    lesion = dataclasses.replace(spec.regions[0], id="lesion", name="lesion")
    write_spec(other, dataclasses.replace(spec, name="other", regions=(lesion,)))
    window.logic.segment(nodes, model=other, outputSegmentation=output, progress=print)
    segmentation = output.GetSegmentation()
    names = [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]
    assert names == ["lesion"]


def test_output_whose_other_segments_would_move_is_refused(slicer, module, window):
    from DanteSegmenterLib.errors import InputError

    nodes = add_study(slicer)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "theirs")
    theirs.SetAndObserveTransformNodeID(transform.GetID())
    window.logic.segment(nodes, outputSegmentation=theirs, progress=print)
    assert theirs.GetParentTransformNode() is None  # it held no segments of the user
    theirs.GetSegmentation().AddEmptySegment("mine", "mine")
    theirs.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(InputError, match="'theirs' holds other segments and lies under another transform"):
        window.logic.segment(nodes, outputSegmentation=theirs, progress=print)


def test_deleted_result_is_deselected(slicer, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    slicer.mrmlScene.RemoveNode(window.choices.parameters.outputSegmentation)
    slicer.app.processEvents()
    assert window.choices.output() is None
    window.ui.segmentButton.click()
    assert window.choices.output() is not None


def test_closing_the_scene_empties_the_window(slicer, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()
    assert not window.ui.segmentButton.enabled
    assert not shown(window.ui.volumesCollapsibleButton, window)
    add_study(slicer)
    assert window.ui.segmentButton.enabled


def test_model_folder_can_be_added_and_a_bad_one_is_refused(slicer, module, window, tmp_path):
    window.modelPanel.addModel(str(tmp_path))
    assert "no model folder" in window.ui.statusLabel.text
    mine = write_brain_model(tmp_path / "mine")
    window.modelPanel.addModel(str(mine))
    assert window.choices.parameters.model == str(mine)
    assert window.choices.model.folder == mine
    assert module.DanteSegmenterLogic().addedModels() == [str(mine)]
    slicer.app.userSettings().remove(module.ADDED_MODELS_SETTING)


def test_zipped_model_is_unpacked_into_the_settings_and_selected(slicer, module, window, tmp_path):
    import shutil

    mine = write_brain_model(tmp_path / "zipped")
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", mine)
    window.modelPanel.addModel(archive)
    folder = Path(slicer.app.slicerUserSettingsFilePath).parent / "DanteModels" / "zipped"
    assert window.choices.parameters.model == str(folder) and window.choices.model.spec.name == "test model"
    slicer.app.userSettings().remove(module.ADDED_MODELS_SETTING)


@pytest.mark.slow
def test_nnunet_results_folder_is_imported_into_the_settings_and_segments(slicer, module, window):
    """It has one pathway, no privileged scan, and its own regions."""
    window.modelPanel.addModel(str(REPOSITORY / "Testing" / "segmenter" / "nnunet" / "golden" / NNUNET_RESULTS))
    until(slicer, lambda: not window.modelPanel.importing)
    entry = window.choices.model
    assert entry.folder.parent == Path(slicer.app.slicerUserSettingsFilePath).parent / "DanteModels"
    assert (entry.spec.privileged, window.choices.modalities()) == (None, ["t1", "flair"])
    add_study(slicer, ("t1", "flair"))
    assert window.ui.segmentButton.enabled and not window.ui.prepareCheckBox.enabled
    output = window.logic.segment(window.choices.inputs(), model=entry.folder, progress=print)
    segmentation = output.GetSegmentation()
    names = [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]
    assert names == ["Necrosis", "Edema", "Enhancing tumor"]
    slicer.app.userSettings().remove(module.ADDED_MODELS_SETTING)


# Installation on the first click


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (
            "the device 'cuda' is not available on this computer; use 'auto' or 'cpu'.",
            "the device 'Graphics card (CUDA)' is not available on this computer; use 'Automatic' or "
            "'Processor (CPU)'.",
        ),
        ("'a cpu' holds no image.", "'a cpu' holds no image."),
    ],
)
def test_refusal_uses_the_window_names_of_devices(slicer, window, message, wanted):
    from DanteSegmenterLib.errors import ResourceError

    window.logic.inference.run.error = ResourceError(message)
    add_study(slicer)
    window.ui.segmentButton.click()
    assert window.ui.statusLabel.text == wanted


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        ("cpu (bfloat16)", "Done in 1.2 s on Processor (CPU), bfloat16."),
        ("cuda (float16)", "Done in 1.2 s on Graphics card (CUDA), float16."),
        ("mps (float16)", "Done in 1.2 s on Graphics (Apple), float16."),
        ("cpu", "Done in 1.2 s on Processor (CPU)."),
        ("cuda (float16) at gpu", "Done in 1.2 s on Graphics card (CUDA), float16, at gpu."),
    ],
)
def test_report_uses_the_window_names_of_devices(module, device, wanted):
    report = Report("model", "1", "", SegmentOptions(), (), {"network": 1.25}, device)
    assert module.reportText(report) == wanted


def test_table_is_saved_as_csv_with_the_model_name(slicer, module, window, tmp_path, monkeypatch):
    add_study(slicer)
    window.ui.segmentButton.click()
    path = str(tmp_path / "volumes.csv")
    monkeypatch.setattr("qt.QFileDialog.getSaveFileName", lambda *args: (path, "csv"))
    window.ui.saveTableButton.click()
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["Segment"] for row in rows] == ["whole tumour", "tumour core", "enhancing tumour"]
    # By hand, from FakeRun: 2 x 2 x 3 voxels of 1 x 2 x 3 mm are 0.072 mL.
    assert float(rows[0]["Volume [mL]"]) == pytest.approx(0.072) and rows[0]["Model"] == "test model 1"


def test_segment_editor_opens_on_the_result(slicer, window, monkeypatch):
    volumes = add_study(slicer)
    window.ui.segmentButton.click()
    opened, editor = [], slicer.util.getModuleWidget("SegmentEditor").editor
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: "there is one")
    monkeypatch.setattr(slicer.util, "selectModule", opened.append)
    window.ui.editButton.click()
    monkeypatch.undo()
    assert opened == ["SegmentEditor"]
    assert editor.segmentationNode() is window.choices.output() and editor.sourceVolumeNode() is volumes["flair"]


def test_window_describes_the_model(slicer, window, model_folder):
    from dataclasses import replace

    from DanteSegmenterLib.model_folder import Calibration, read_spec, write_spec

    spec = read_spec(model_folder)
    assert not shown(window.ui.aboutCollapsibleButton, window)  # there is nothing to show
    calibration = {"WT": Calibration(17, 0.9, 0.75, 0.5)}
    described = replace(
        spec,
        licence="CC0",
        training_data="two cases",
        scores={"Scores (test)": {"WT Dice": 0.741}},
        limited=replace(spec.limited, calibration=calibration),
    )
    write_spec(model_folder, described)
    window.modelPanel.updateModels()
    text = window.ui.aboutLabel.text
    write_spec(model_folder, spec)
    for part in (
        "two cases",
        "WT Dice 0.741",
        "CC0",
        "WT 90% sure, 75% right, the true volume within the range in 50% of",
    ):
        assert part in text
