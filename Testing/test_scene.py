"""What happens in the scene around a result: other patients' results, edits, deleted nodes, views, probabilities."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from test_slicer_module import (  # noqa: F401
    NAMES,
    add_study,
    add_volume,
    model_folder,
    module,
    slicer,
    window,
)
from test_window_batch import until


def choose(window, nodes):
    """Choose a study's volumes, as a user does, box by box."""
    for modality, selector in window._inputSelectors.items():
        selector.setCurrentNode(nodes.get(modality))


@pytest.fixture
def two_patients(slicer, module, window):
    """Two patients with a result each; the second one's is the last."""
    results, patients = {}, {}
    for name in ("one", "two"):
        patients[name] = add_study(slicer, prefix=f"{name} ")
        module.makeStudy(name, "MR", list(patients[name].values()))
        choose(window, patients[name])
        window.ui.segmentButton.click()
        results[name] = window.output()
    slicer.app.processEvents()
    assert results["one"] is not results["two"]
    return patients, results


def visible(result):
    """In the slices and in 3D; the subject hierarchy's eye is this very property."""
    return bool(result.GetDisplayVisibility())


# Results of another patient


def test_a_second_patients_result_hides_the_first_ones(two_patients):
    _patients, results = two_patients
    assert visible(results["two"]) and not visible(results["one"])


def test_after_several_studies_only_the_result_that_the_window_names_is_shown(slicer, module, window):
    for name in ("one", "two", "three"):
        module.makeStudy("patient", name, list(add_study(slicer, prefix=f"{name} ").values()))
    window.batch.refresh()
    window.ui.batchButton.click()
    until(slicer, lambda: not window.batch.running)
    slicer.app.processEvents()
    results = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert len(results) == 3
    assert [result for result in results if visible(result)] == [window.output()]
    assert module.resultReference(window.output()) is window.referenceVolume()


def test_several_studies_behind_another_module_leave_the_window_at_the_last_one(slicer, module, window):
    for name in ("one", "two"):
        module.makeStudy("patient", name, list(add_study(slicer, prefix=f"{name} ").values()))
    window.batch.refresh()
    window.ui.batchButton.click()
    window.parent.exit()
    until(slicer, lambda: not window.batch.running)
    last = next(r for r in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if visible(r))
    window.parent.enter()
    slicer.app.processEvents()
    assert window.output() is last and visible(last)
    assert module.resultReference(last) is window.referenceVolume()


def test_the_console_hides_results_of_another_patient_too(slicer, module, window):
    first = window.logic.segment(add_study(slicer, prefix="one "))
    second = window.logic.segment(add_study(slicer, prefix="two "))
    assert visible(second) and not visible(first)


def test_choosing_a_patients_volumes_again_shows_their_result_and_hides_the_other(window, two_patients):
    patients, results = two_patients
    choose(window, patients["one"])
    assert window.output() is results["one"]
    assert visible(results["one"]) and not visible(results["two"])


def test_choosing_a_result_brings_its_volumes_with_it(slicer, window, two_patients):
    patients, results = two_patients
    window.ui.outputSelector.setCurrentNode(results["one"])
    slicer.app.processEvents()
    assert visible(results["one"]) and not visible(results["two"])
    assert window.inputs() == patients["one"] and window.output() is results["one"]
    backgrounds = {view.GetBackgroundVolumeID() for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}
    assert backgrounds <= {node.GetID() for node in patients["one"].values()}


def test_a_click_on_a_row_of_several_studies_brings_that_study_back(slicer, window, two_patients):
    patients, results = two_patients
    window.batch.refresh()
    names = [window.ui.batchTable.item(n, 0).text() for n in range(2)]
    window.ui.batchTable.cellClicked.emit(names.index("one, MR"), 0)
    assert window.inputs() == patients["one"] and window.output() is results["one"]
    assert visible(results["one"]) and not visible(results["two"])


def test_what_was_brought_back_by_its_eye_stays_until_another_result_is_chosen(slicer, window, two_patients):
    _patients, results = two_patients
    results["one"].SetDisplayVisibility(True)
    window.exit()
    window.enter()
    slicer.app.processEvents()
    assert visible(results["one"]) and visible(results["two"])


def test_the_users_own_segmentations_are_never_hidden(slicer, window, two_patients):
    patients, _results = two_patients
    theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn by the user")
    theirs.SetReferenceImageGeometryParameterFromVolumeNode(patients["one"]["t1"])
    theirs.CreateDefaultDisplayNodes()
    theirs.GetSegmentation().AddEmptySegment("mine", "mine")
    window.ui.segmentButton.click()
    choose(window, patients["one"])
    assert visible(theirs)


def test_our_segments_in_the_users_node_are_hidden_alone(slicer, module, window, two_patients):
    patients, _results = two_patients
    theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn by the user")
    theirs.SetReferenceImageGeometryParameterFromVolumeNode(patients["one"]["t1"])
    theirs.GetSegmentation().AddEmptySegment("mine", "mine")
    window.logic.segment(patients["one"], outputSegmentation=theirs)
    window.logic.segment(patients["two"])
    display, ours = theirs.GetDisplayNode(), module.ourSegments(theirs)
    assert visible(theirs) and display.GetSegmentVisibility("mine")
    assert len(ours) == 3 and not any(display.GetSegmentVisibility(segment) for segment in ours.values())
    window.logic.segment(patients["one"], outputSegmentation=theirs)
    assert all(display.GetSegmentVisibility(segment) for segment in ours.values())


def test_two_models_results_for_one_volume_are_shown_together(slicer, window, two_patients):
    patients, results = two_patients
    another = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "another model's")
    window.logic.segment(patients["two"], outputSegmentation=another)
    assert visible(another) and visible(results["two"])


# Correcting a result in the Segment Editor


@pytest.fixture
def editor(slicer, window):
    """The Segment Editor as the window's button opens it on a result of 12, 8 and 4 voxels of 6 mm3."""
    add_study(slicer)
    window.ui.segmentButton.click()
    window.ui.editButton.click()
    return slicer.util.getModuleWidget("SegmentEditor").editor


def voxels(slicer, window):
    """How many each of our segments holds, from the outermost."""
    output, reference = window.output(), window.referenceVolume()
    masks = [slicer.util.arrayFromSegmentBinaryLabelmap(output, name, reference) for name in ("WT", "TC", "ET")]
    return [int((mask > 0).sum()) for mask in masks]


def edited(slicer, module, window):
    """Let the moment pass after which the table follows; returns its rows."""
    until(slicer, lambda: not window.edits.waiting, 5)
    return module.readTable(window.output().GetNodeReference(module.TABLE_ROLE))


def test_growing_a_segment_erases_none_of_those_inside_it(slicer, window, editor):
    assert editor.segmentationNode() is window.output()
    assert voxels(slicer, window) == [12, 8, 4]
    assert editor.mrmlSegmentEditorNode().GetSelectedSegmentID() == "WT"
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    assert voxels(slicer, window) == [48, 8, 4]


def test_the_editor_opens_without_the_masks_of_an_earlier_patient(slicer, window, editor):
    node = editor.mrmlSegmentEditorNode()
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    node.SourceVolumeIntensityMaskOn()
    window.ui.editButton.click()
    assert node.GetMaskMode() == slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
    assert not node.GetSourceVolumeIntensityMask()


def test_the_table_follows_an_edit_and_keeps_the_models_own_numbers_beside_it(slicer, module, window, editor):
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    outer, core, inner = edited(slicer, module, window)
    # By hand: 48 voxels of 1 x 2 x 3 mm are 0.288 mL, where the model found 12, 0.072 mL, between 0.036 and 0.144.
    assert outer.edited and not core.edited and not inner.edited
    assert outer.volume == pytest.approx(0.288) and outer.modelVolume == pytest.approx(0.072)
    assert (outer.low, outer.high) == pytest.approx((0.036, 0.144)) and outer.sure == pytest.approx(0.875)
    assert core.volume == core.modelVolume == pytest.approx(0.048)
    table = window.ui.volumesTable
    assert table.item(0, 1).text() == "0.3 edited" and table.item(0, 4).text() == "0.1"
    assert table.item(1, 1).text() == "0.0"
    assert not table.isColumnHidden(4)


def test_before_an_edit_the_models_numbers_are_not_shown_twice(slicer, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    assert window.ui.volumesTable.isColumnHidden(4) and window.ui.volumesTable.item(0, 1).text() == "0.1"


def test_a_segment_that_was_moved_but_is_as_large_as_before_was_edited(slicer, module, window, editor):
    editor.mrmlSegmentEditorNode().SetSelectedSegmentID("ET")
    editor.stroke(np.s_[1:3, 1:3, 1:2], erase=True)
    editor.stroke(np.s_[1:3, 1:3, 2:3])
    assert voxels(slicer, window) == [12, 8, 4]
    assert [row.edited for row in edited(slicer, module, window)] == [False, False, True]


def test_an_edit_that_is_taken_back_is_none(slicer, module, window, editor):
    editor.stroke(np.s_[0:1, 0:2, 0:2])
    assert edited(slicer, module, window)[0].edited
    editor.stroke(np.s_[0:1, 0:2, 0:2], erase=True)
    row = edited(slicer, module, window)[0]
    assert not row.edited and row.volume == row.modelVolume


def test_a_deleted_or_renamed_segment_is_so_in_the_table(slicer, module, window, editor):
    segmentation = window.output().GetSegmentation()
    segmentation.GetSegment("TC").SetName("core, corrected")
    segmentation.RemoveSegment("ET")
    rows = edited(slicer, module, window)
    assert [row.name for row in rows] == ["whole tumour", "core, corrected", "enhancing tumour"]
    assert rows[2].edited and rows[2].volume == 0 and rows[2].modelVolume == pytest.approx(0.024)


def test_strokes_do_not_wait_for_the_table(slicer, module, window, editor, monkeypatch):
    calls, real = [], module.followEdits
    monkeypatch.setattr(module, "followEdits", lambda output: calls.append(output) or real(output))
    for n in range(20):
        editor.stroke(np.s_[0:1, 0:1, 0:1], erase=bool(n % 2))
        slicer.app.processEvents()
    assert calls == [] and window.edits.waiting
    edited(slicer, module, window)
    assert len(calls) == 1


def test_the_table_follows_while_the_segment_editor_is_shown(slicer, module, window, editor):
    window.parent.exit()
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    until(slicer, lambda: not window.edits.waiting, 5)
    window.parent.enter()
    assert window.ui.volumesTable.item(0, 1).text() == "0.3 edited"


def test_an_edited_table_is_in_the_csv_and_in_the_reopened_scene(slicer, module, window, editor, tmp_path, monkeypatch):
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    path = str(tmp_path / "volumes.csv")
    monkeypatch.setattr(module.qt.QFileDialog, "getSaveFileName", lambda *args: (path, "csv"))
    window.ui.saveTableButton.click()  # at once, before the table has followed by itself
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["Edited"] for row in rows] == ["yes", "", ""]
    assert float(rows[0]["Volume [mL]"]) == pytest.approx(0.288)
    assert float(rows[0]["Model volume [mL]"]) == pytest.approx(0.072)
    editor.stroke(np.s_[0:4, 0:4, 0:4])
    scene = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(scene)  # at once, too
    slicer.mrmlScene.Clear(0)
    assert slicer.mrmlScene.ReadFromMRB(scene, True)
    rows = module.readTable(window.output().GetNodeReference(module.TABLE_ROLE))
    assert [row.edited for row in rows] == [True, False, False] and rows[0].volume == pytest.approx(0.288)
    rows = edited(slicer, module, window)
    assert [row.edited for row in rows] == [True, False, False]
    assert rows[0].volume == pytest.approx(0.384) and rows[0].modelVolume == pytest.approx(0.072)


def test_a_new_run_into_an_edited_result_is_the_models_again(slicer, module, window, editor, monkeypatch):
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    edited(slicer, module, window)
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda *args, **options: True)
    window.ui.segmentButton.click()
    row = edited(slicer, module, window)[0]
    assert not row.edited and row.volume == pytest.approx(0.072)
