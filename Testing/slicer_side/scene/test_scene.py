"""What happens in the scene around a result: other patients' results, edits, deleted nodes, views, probabilities."""

from __future__ import annotations

import csv
from ctypes.util import find_library
from dataclasses import replace

import numpy as np
import pytest
from slicer_window import (  # noqa: F401
    NAMES,
    add_study,
    add_volume,
    model_folder,
    module,
    shown,
    slicer,
    until,
    window,
)


def choose(window, nodes):
    """Choose a study's volumes, as a user does, box by box."""
    for modality, selector in window.inputsPanel.selectors.items():
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
        results[name] = window.choices.output()
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
    window.severalStudies.refresh()
    window.ui.batchButton.click()
    until(slicer, lambda: not window.severalStudies.running)
    slicer.app.processEvents()
    results = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert len(results) == 3
    assert [result for result in results if visible(result)] == [window.choices.output()]
    assert module.resultReference(window.choices.output()) is window.choices.referenceVolume()


def test_after_several_studies_the_boxes_still_follow_the_patient_in_view(slicer, module, window):
    nodes = {}
    for name in ("one", "two"):
        nodes[name] = add_study(slicer, prefix=f"{name} ")
        module.makeStudy("patient", name, list(nodes[name].values()))
    window.severalStudies.refresh()
    window.ui.batchButton.click()
    until(slicer, lambda: not window.severalStudies.running)
    slicer.app.processEvents()
    assert window.choices.inputs() == nodes["two"]
    slicer.util.setSliceViewerLayers(background=nodes["one"]["flair"])
    slicer.app.processEvents()
    assert window.choices.inputs() == nodes["one"]
    assert visible(window.choices.output()) and module.resultReference(window.choices.output()) is nodes["one"]["t1"]


def test_two_patients_side_by_side_in_the_views_stay_there(slicer, module, window):
    nodes = {}
    for name in ("one", "two"):
        nodes[name] = add_study(slicer, prefix=f"{name} ")
        module.makeStudy("patient", name, list(nodes[name].values()))
    window.severalStudies.refresh()
    window.ui.batchButton.click()
    until(slicer, lambda: not window.severalStudies.running)
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    before = [view.GetBackgroundVolumeID() for view in views]
    views[0].SetBackgroundVolumeID(nodes["one"]["t2"].GetID())
    slicer.app.processEvents()
    assert window.choices.inputs() == nodes["one"]
    assert [view.GetBackgroundVolumeID() for view in views] == [nodes["one"]["t2"].GetID(), *before[1:]]


def test_several_studies_behind_another_module_leave_the_window_at_the_last_one(slicer, module, window):
    for name in ("one", "two"):
        module.makeStudy("patient", name, list(add_study(slicer, prefix=f"{name} ").values()))
    window.severalStudies.refresh()
    window.ui.batchButton.click()
    window.parent.exit()
    until(slicer, lambda: not window.severalStudies.running)
    last = next(r for r in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if visible(r))
    window.parent.enter()
    slicer.app.processEvents()
    assert window.choices.output() is last and visible(last)
    assert module.resultReference(last) is window.choices.referenceVolume()


def test_the_console_hides_results_of_another_patient_too(slicer, module, window):
    first = window.logic.segment(add_study(slicer, prefix="one "))
    second = window.logic.segment(add_study(slicer, prefix="two "))
    assert visible(second) and not visible(first)


def test_choosing_a_patients_volumes_again_shows_their_result_and_hides_the_other(window, two_patients):
    patients, results = two_patients
    choose(window, patients["one"])
    assert window.choices.output() is results["one"]
    assert visible(results["one"]) and not visible(results["two"])


def test_choosing_a_result_brings_its_volumes_with_it(slicer, window, two_patients):
    patients, results = two_patients
    window.ui.outputSelector.setCurrentNode(results["one"])
    slicer.app.processEvents()
    assert visible(results["one"]) and not visible(results["two"])
    assert window.choices.inputs() == patients["one"] and window.choices.output() is results["one"]
    backgrounds = {view.GetBackgroundVolumeID() for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}
    assert backgrounds <= {node.GetID() for node in patients["one"].values()}


def test_a_click_on_a_row_of_several_studies_brings_that_study_back(slicer, window, two_patients):
    patients, results = two_patients
    window.severalStudies.refresh()
    names = [window.ui.batchTable.item(n, 0).text() for n in range(2)]
    window.ui.batchTable.cellClicked.emit(names.index("one, MR"), 0)
    assert window.choices.inputs() == patients["one"] and window.choices.output() is results["one"]
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
    window.logic.segment(patients["one"], outputSegmentation=theirs, confirmed=True)
    window.logic.segment(patients["two"])
    display, ours = theirs.GetDisplayNode(), module.ourSegments(theirs)
    assert visible(theirs) and display.GetSegmentVisibility("mine")
    assert len(ours) == 3 and not any(display.GetSegmentVisibility(segment) for segment in ours.values())
    window.logic.segment(patients["one"], outputSegmentation=theirs, confirmed=True)
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
    output, reference = window.choices.output(), window.choices.referenceVolume()
    masks = [slicer.util.arrayFromSegmentBinaryLabelmap(output, name, reference) for name in ("WT", "TC", "ET")]
    return [int((mask > 0).sum()) for mask in masks]


def edited(slicer, module, window):
    """Let the moment pass after which the table follows; returns its rows."""
    until(slicer, lambda: not window.resultPanel.edits.waiting, 5)
    return module.readTable(window.choices.output().GetNodeReference(module.TABLE_ROLE))


def test_growing_a_segment_erases_none_of_those_inside_it(slicer, window, editor):
    assert editor.segmentationNode() is window.choices.output()
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
    assert (outer.low, outer.high) == pytest.approx((0.036, 0.144)) and outer.confidence == pytest.approx(0.875)
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
    segmentation = window.choices.output().GetSegmentation()
    segmentation.GetSegment("TC").SetName("core, corrected")
    segmentation.RemoveSegment("ET")
    rows = edited(slicer, module, window)
    assert [row.name for row in rows] == ["whole tumour", "core, corrected", "enhancing tumour"]
    assert rows[2].edited and rows[2].volume == 0 and rows[2].modelVolume == pytest.approx(0.024)


def test_strokes_do_not_wait_for_the_table(slicer, module, window, editor, monkeypatch):
    calls, real = [], module.followEdits
    monkeypatch.setattr(
        "DanteSlicerLib.scene.volumes_table.followEdits", lambda output: calls.append(output) or real(output)
    )
    for n in range(20):
        editor.stroke(np.s_[0:1, 0:1, 0:1], erase=bool(n % 2))
        slicer.app.processEvents()
    assert calls == [] and window.resultPanel.edits.waiting
    edited(slicer, module, window)
    assert len(calls) == 1


def test_the_table_follows_while_the_segment_editor_is_shown(slicer, module, window, editor):
    window.parent.exit()
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    until(slicer, lambda: not window.resultPanel.edits.waiting, 5)
    window.parent.enter()
    assert window.ui.volumesTable.item(0, 1).text() == "0.3 edited"


def test_an_edited_table_is_in_the_csv_and_in_the_reopened_scene(slicer, module, window, editor, tmp_path, monkeypatch):
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    path = str(tmp_path / "volumes.csv")
    monkeypatch.setattr("qt.QFileDialog.getSaveFileName", lambda *args: (path, "csv"))
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
    rows = module.readTable(window.choices.output().GetNodeReference(module.TABLE_ROLE))
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


# Deleted nodes, and segments that are not ours


def delete(slicer, node):
    slicer.mrmlScene.RemoveNode(node)
    slicer.app.processEvents()


def test_deleting_t1_empties_its_box_and_puts_no_other_volume_there(slicer, window):
    nodes = add_study(slicer, NAMES)
    assert window.ui.segmentButton.enabled
    delete(slicer, nodes["t1"])
    assert window.inputsPanel.selectors["t1"].currentNode() is None
    assert window.choices.parameters.inputVolume("t1") is None
    assert window.inputsPanel.selectors["t1ce"].currentNode() is nodes["t1ce"]
    assert not window.ui.segmentButton.enabled
    assert window.ui.segmentButton.toolTip == "Choose the volumes for: T1."


def test_another_patients_volume_does_not_take_a_deleted_ones_place_but_a_new_one_does(slicer, window):
    nodes, others = add_study(slicer), add_study(slicer, prefix="b ")
    choose(window, nodes)
    delete(slicer, nodes["t1"])
    assert window.choices.parameters.inputVolume("t1") is None
    delete(slicer, others["t1"])
    again = add_volume(slicer, NAMES["t1"])
    assert window.choices.parameters.inputVolume("t1") is again and shown(window.inputsPanel.guessLabels["t1"], window)


def test_deleting_what_is_in_no_box_changes_none(slicer, window):
    nodes, other = add_study(slicer), add_volume(slicer, "something")
    delete(slicer, other)
    assert window.choices.inputs() == nodes and window.ui.segmentButton.enabled


def test_an_input_that_is_deleted_while_another_module_is_shown_leaves_an_empty_box(slicer, window):
    nodes = add_study(slicer)
    others = add_study(slicer, prefix="b ")
    choose(window, nodes)
    window.parent.exit()
    delete(slicer, nodes["t1"])
    window.parent.enter()
    assert window.inputsPanel.selectors["t1"].currentNode() is None and not window.ui.segmentButton.enabled
    assert slicer.mrmlScene.IsNodePresent(others["t1"])


def draw(slicer, name, reference):
    """A segmentation of the user's with one segment."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    node.GetSegmentation().AddEmptySegment("mine", "my segment")
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones((4, 5, 6), np.uint8), node, "mine", reference)
    return node


@pytest.mark.parametrize("order", ["before ours", "after ours"])
def test_deleting_our_result_does_not_make_the_users_segmentation_the_output(slicer, window, order):
    nodes = add_study(slicer)
    if order == "before ours":
        draw(slicer, "theirs", nodes["t1"])
    window.ui.segmentButton.click()
    if order == "after ours":
        draw(slicer, "theirs", nodes["t1"])
    delete(slicer, window.choices.output())
    assert window.choices.output() is None and window.ui.outputSelector.currentNode() is None


def test_an_input_that_is_deleted_during_a_run_is_not_remembered_with_the_result(slicer, module, window):
    nodes = add_study(slicer)
    job = window.logic.begin(nodes)
    delete(slicer, nodes["t2"])
    _news, outcome = window.logic.inference.poll()
    for _step in window.logic.finish(job, outcome):
        pass
    roles = module.rolesOf(job.output, module.INPUT_ROLE)
    assert sorted(roles) == [module.INPUT_ROLE + modality for modality in ("flair", "t1")]


def test_a_deleted_brain_mask_is_replaced_by_none(slicer, window):
    nodes = add_study(slicer)
    masks = [draw(slicer, name, nodes["t1"]) for name in ("my brain", "my tumour")]
    window.choices.parameters.prepare = True
    window.ui.maskSelector.setCurrentNode(masks[0])
    assert window.choices.parameters.brainMask() is masks[0]
    delete(slicer, masks[0])
    assert window.choices.parameters.brainMask() is None and window.ui.maskSelector.currentNode() is None


def test_a_study_whose_volume_is_deleted_while_it_waits_is_said_in_its_row(slicer, module, window):
    studies = {}
    for name in ("one", "two", "three"):
        studies[name] = add_study(slicer, prefix=f"{name} ")
        module.makeStudy("patient", name, list(studies[name].values()))
    window.severalStudies.refresh()
    window.ui.batchButton.click()  # the first one is done at once, the others wait for the event loop
    slicer.mrmlScene.RemoveNode(studies["two"]["t2"])
    until(slicer, lambda: not window.severalStudies.running)
    table = window.ui.batchTable
    rows = {table.item(n, 0).text(): table.item(n, 1).text() for n in range(table.rowCount)}
    assert rows["patient, one"] == rows["patient, three"] == "done"
    assert rows["patient, two"] == "a volume was deleted"


@pytest.mark.parametrize("answer", [False, True])
def test_before_a_node_with_segments_of_others_is_written_into_the_user_is_asked(
    slicer, module, window, monkeypatch, answer
):
    nodes = add_study(slicer)
    theirs = draw(slicer, "theirs", nodes["t1"])
    questions = []
    ask = lambda text, **options: questions.append(text) or answer  # noqa: E731
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", ask)
    window.ui.outputSelector.setCurrentNode(theirs)
    window.ui.segmentButton.click()
    assert len(questions) == 1 and "'theirs' holds 'my segment'" in questions[0]
    assert len(module.ourSegments(theirs)) == (3 if answer else 0)
    assert (slicer.util.arrayFromSegmentBinaryLabelmap(theirs, "mine", nodes["t1"]) == 1).all()
    assert len(window.logic.inference.run.calls) == int(answer)
    assert window.ui.segmentButton.enabled


def test_our_own_unchanged_result_is_replaced_without_a_question(slicer, window, monkeypatch):
    add_study(slicer)
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda *args, **options: pytest.fail("a question"))
    window.ui.segmentButton.click()
    first = window.choices.output()
    window.ui.segmentButton.click()
    assert window.choices.output() is first


def test_a_corrected_result_is_replaced_only_after_a_yes(slicer, window, editor, monkeypatch):
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    questions = []
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda text, **options: questions.append(text))
    window.ui.segmentButton.click()
    assert voxels(slicer, window) == [48, 8, 4]
    assert "'whole tumour' in '3: AX T1 DANTE' was corrected by hand" in questions[0]


def test_a_corrected_result_stays_when_a_new_segmentation_is_asked_for(slicer, window, editor):
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    corrected = window.choices.output()
    window.ui.outputSelector.setCurrentNode(None)
    window.ui.segmentButton.click()
    assert window.choices.output() is not corrected and voxels(slicer, window) == [12, 8, 4]


def test_the_console_refuses_to_write_beside_segments_of_others_unless_told(slicer, module, window):
    from DanteSegmenterLib.errors import InputError

    nodes = add_study(slicer)
    theirs = draw(slicer, "theirs", nodes["t1"])
    with pytest.raises(InputError, match="'theirs' holds 'my segment'.*confirmed=True"):
        window.logic.segment(nodes, outputSegmentation=theirs)
    assert not module.ourSegments(theirs)
    window.logic.segment(nodes, outputSegmentation=theirs, confirmed=True)
    assert len(module.ourSegments(theirs)) == 3


def test_what_the_user_draws_during_a_run_is_not_written_over(slicer, window, editor):
    job = window.logic.begin(window.choices.inputs(), outputSegmentation=window.choices.output())
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    _news, outcome = window.logic.inference.poll()
    for _step in window.logic.finish(job, outcome):
        pass
    assert voxels(slicer, window) == [48, 8, 4] and job.output is not window.choices.output()


# The 3D view


def camera(slicer):
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCameraNode")


def far_study(slicer, prefix="", shift=(300.0, 400.0, 500.0)):
    """A study that lies where Slicer's camera does not look by itself."""
    nodes = add_study(slicer, prefix=prefix)
    for node in nodes.values():
        node.SetOrigin(shift)
    return nodes


def test_the_3d_view_is_centred_on_the_first_result(slicer, window):
    far_study(slicer)
    before = np.array(camera(slicer).GetPosition()) - np.array(camera(slicer).GetFocalPoint())
    window.ui.segmentButton.click()
    # By hand: i 1..3, j 1..2, k 1..2 of voxels of 1, 2 and 3 mm from (300, 400, 500): the middle voxel is (2, 1, 1).
    np.testing.assert_allclose(camera(slicer).GetFocalPoint(), (302, 402, 503), atol=0.01)
    after = np.array(camera(slicer).GetPosition()) - np.array(camera(slicer).GetFocalPoint())
    np.testing.assert_allclose(after / np.linalg.norm(after), before / np.linalg.norm(before), atol=1e-6)
    # Seen whole, and not from within: half a field of view of 50 mm at least.
    half = np.linalg.norm(after) * np.sin(np.radians(camera(slicer).GetViewAngle() / 2))
    assert half == pytest.approx(50)


def test_afterwards_the_camera_is_the_users(slicer, window, tmp_path):
    far_study(slicer)
    window.ui.segmentButton.click()
    camera(slicer).SetFocalPoint(1, 2, 3)
    camera(slicer).SetPosition(4, 5, 6)
    window.ui.segmentButton.click()
    choose(window, far_study(slicer, "b ", (0.0, 0.0, 0.0)))
    window.ui.segmentButton.click()
    assert camera(slicer).GetFocalPoint() == (1, 2, 3) and camera(slicer).GetPosition() == (4, 5, 6)
    path = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    slicer.mrmlScene.Clear(0)
    assert slicer.mrmlScene.ReadFromMRB(path, True)
    slicer.app.processEvents()
    camera(slicer).SetFocalPoint(7, 8, 9)
    window.ui.segmentButton.click()
    assert camera(slicer).GetFocalPoint() == (7, 8, 9)


def test_a_new_scene_is_centred_again_and_only_when_there_is_something_in_3d(slicer, window):
    far_study(slicer)
    window.choices.parameters.show3D = False
    window.ui.segmentButton.click()
    assert camera(slicer).GetFocalPoint() == (0, 0, 0)
    window.choices.parameters.show3D = True
    window.ui.segmentButton.click()
    np.testing.assert_allclose(camera(slicer).GetFocalPoint(), (302, 402, 503), atol=0.01)
    slicer.mrmlScene.Clear(0)
    assert camera(slicer).GetFocalPoint() == (0, 0, 0)
    far_study(slicer)
    window.ui.segmentButton.click()
    np.testing.assert_allclose(camera(slicer).GetFocalPoint(), (302, 402, 503), atol=0.01)


def test_an_empty_result_moves_nothing_and_leaves_the_first_look_to_the_next(slicer, window):
    far_study(slicer)
    run, empty = window.logic.inference.run, [True]

    def nothing_first(*arguments):
        result = run(*arguments)
        return replace(result, label_map=result.label_map * (not empty[0]))

    window.logic.inference.run = nothing_first
    window.ui.segmentButton.click()
    assert camera(slicer).GetFocalPoint() == (0, 0, 0)
    empty[0] = False
    window.ui.segmentButton.click()
    assert camera(slicer).GetFocalPoint() != (0, 0, 0)


def test_the_3d_view_holds_a_large_result_and_not_the_whole_volume(slicer, module, window):
    """By hand: a block of 40 x 30 x 60 voxels of 2 mm measures 80 x 60 x 120 mm, half its diagonal is 78.10 mm."""
    reference = slicer.util.addVolumeFromArray(np.zeros((100, 100, 100), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]), "T1")
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "large")
    mask = np.zeros((100, 100, 100), np.uint8)
    mask[10:70, 20:50, 30:70] = 1
    output.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    output.CreateDefaultDisplayNodes()
    segment = module.addSegment(output, window.choices.model.spec.regions[0], window.choices.model.spec.regions)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, output, segment, reference)
    assert module.centre3D(output)
    distance = np.linalg.norm(np.subtract(camera(slicer).GetPosition(), camera(slicer).GetFocalPoint()))
    assert distance * np.sin(np.radians(camera(slicer).GetViewAngle() / 2)) == pytest.approx(78.10, abs=0.01)


@pytest.mark.skipif(not find_library("EGL"), reason="pictures of views need EGL (sh Testing/tools/system_libraries.sh)")
def test_the_tumour_is_seen_in_the_3d_view(slicer, module, window):
    """The pixels of the view: the background is blue-grey, the tumour is not."""
    import views

    drawn = module.DanteSegmenterTest()
    inputs = drawn.drawnInputs(window.choices.model.spec)
    for node in inputs.values():
        node.SetOrigin(300, 400, 500)
    drawn.drawnLogic().segment(inputs)
    picture = views.three_d_picture((200, 200)).astype(int)
    middle = picture[80:120, 80:120].reshape(-1, 3)
    assert (middle[:, 2] < middle[:, :2].max(axis=1)).any(), "only background"


# Probabilities


@pytest.fixture
def probable(module, window):
    """The computation answers with probabilities too, of 0.9 inside and 0.1 outside, where they are asked for."""
    run = window.logic.inference.run
    window.choices.parameters.showProbabilities = True

    def with_probabilities(*arguments):
        result = run(*arguments)
        if window.logic.getParameterNode().showProbabilities:
            return replace(result, probabilities=np.stack([np.where(m, 0.9, 0.1) for m in result.masks.values()]))
        return result

    window.logic.inference.run = with_probabilities
    return window.choices.parameters


def foregrounds(slicer):
    return {view.GetForegroundVolumeID() for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}


def probability(module, output, region):
    return output.GetNodeReference(module.PROBABILITY_ROLE + region)


def counted(slicer, kind):
    return slicer.mrmlScene.GetNumberOfNodesByClass(kind)


KINDS = ("vtkMRMLScalarVolumeNode", "vtkMRMLScalarVolumeDisplayNode", "vtkMRMLColorLegendDisplayNode")


@pytest.mark.parametrize("reopened", [False, True])
def test_probabilities_of_the_result_before_go_with_it(slicer, module, window, probable, tmp_path, reopened):
    add_study(slicer)
    volumes = counted(slicer, KINDS[0])
    window.ui.segmentButton.click()
    assert counted(slicer, KINDS[0]) == volumes + 3
    if reopened:
        path = str(tmp_path / "scene.mrb")
        assert slicer.mrmlScene.WriteToMRB(path)
        slicer.mrmlScene.Clear(0)
        assert slicer.mrmlScene.ReadFromMRB(path, True)
        slicer.app.processEvents()
        assert counted(slicer, KINDS[0]) == volumes + 3
    window.choices.parameters.showProbabilities = False
    window.ui.segmentButton.click()
    assert counted(slicer, KINDS[0]) == volumes and foregrounds(slicer) == {None}
    assert counted(slicer, KINDS[1]) <= volumes and counted(slicer, KINDS[2]) == 0
    assert not module.probabilityRoles(window.choices.output())


def test_new_probabilities_take_the_place_of_old_ones(slicer, module, window, probable):
    add_study(slicer)
    window.ui.segmentButton.click()
    first, before = probability(module, window.choices.output(), "ET"), [counted(slicer, kind) for kind in KINDS]
    window.ui.segmentButton.click()
    assert probability(module, window.choices.output(), "ET") is first
    assert [counted(slicer, kind) for kind in KINDS] == before
    assert foregrounds(slicer) == {first.GetID()}


def test_sure_voxels_look_hot_and_doubtful_ones_cold(slicer, module, window, probable):
    add_study(slicer)
    window.ui.segmentButton.click()
    node = probability(module, window.choices.output(), "ET")
    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 1)
    table, color = display.GetColorNode(), [0.0] * 4
    colors = {}
    for value in (0.1, 0.5, 0.85):
        table.GetColor(round(value * 255), color)
        colors[value] = tuple(color[:3])
    assert colors[0.1][2] > 0.9 and colors[0.1][0] == 0  # blue
    assert colors[0.5][1] == 1  # green
    assert colors[0.85][0] > 0.9 and colors[0.85][2] == 0  # red


def test_a_legend_says_what_the_colours_mean_and_of_which_region(slicer, module, window, probable):
    add_study(slicer)
    window.ui.segmentButton.click()
    for region, name in (("WT", "whole tumour"), ("TC", "tumour core"), ("ET", "enhancing tumour")):
        node = probability(module, window.choices.output(), region)
        legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(node)
        assert legend.GetTitleText() == f"Probability of\n{name}" and legend.GetVisibility()
        assert legend.GetLabelFormat() % 0.25 == "0.25"


@pytest.mark.skipif(not find_library("EGL"), reason="pictures of views need EGL (sh Testing/tools/system_libraries.sh)")
def test_the_legend_of_the_overlay_alone_is_seen(slicer, module, window, probable):
    """Its colour bar stands at the right edge of a slice view."""
    import views

    def differs(change, back):
        """Where the view looks otherwise after a change: share of its left quarter, and of its right edge."""
        before = views.slice_picture("Red", (300, 300)).astype(int)
        change()
        moved = np.abs(views.slice_picture("Red", (300, 300)).astype(int) - before).max(axis=2) > 30
        back()
        return moved[:, :75].mean(), moved[:, 240:].mean()

    add_study(slicer)
    window.ui.segmentButton.click()
    logic = slicer.modules.colors.logic()
    legends = {
        region: logic.GetColorLegendDisplayNode(probability(module, window.choices.output(), region))
        for region in ("WT", "ET")
    }
    shown_one, hidden_one = legends["ET"], legends["WT"]
    left, right = differs(lambda: shown_one.SetVisibility(False), lambda: shown_one.SetVisibility(True))
    assert left == 0 and right > 0.05
    assert differs(lambda: hidden_one.SetVisibility(False), lambda: None) == (0, 0)


def test_an_overlay_is_hidden_with_its_patients_result_and_comes_back_with_it(slicer, module, window, probable):
    one, two = add_study(slicer, prefix="one "), add_study(slicer, prefix="two ")
    choose(window, one)
    window.ui.segmentButton.click()
    overlay = probability(module, window.choices.output(), "ET").GetID()
    assert foregrounds(slicer) == {overlay}
    window.choices.parameters.showProbabilities = False
    choose(window, two)
    window.ui.segmentButton.click()
    assert foregrounds(slicer) == {None}
    choose(window, one)
    assert foregrounds(slicer) == {overlay}


def test_an_overlay_does_not_stay_over_another_result_of_the_same_volume(slicer, module, window, probable):
    add_study(slicer)
    window.ui.segmentButton.click()
    first = window.choices.output()
    window.choices.parameters.showProbabilities = False
    another = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "another")
    window.logic.segment(window.choices.inputs(), outputSegmentation=another)
    assert foregrounds(slicer) == {None} and len(module.probabilityRoles(first)) == 3


def test_a_volume_of_probabilities_is_never_guessed_as_an_input(slicer, module, window, probable):
    nodes = add_study(slicer)
    window.ui.segmentButton.click()
    for region in ("TC", "ET"):  # one of "3: AX T1 DANTE whole tumour probability" is no ambiguous name
        delete(slicer, probability(module, window.choices.output(), region))
    delete(slicer, window.choices.output())
    delete(slicer, nodes["t1"])
    window.guesses._passedOver.clear()
    window.guesses.fill()
    assert window.choices.parameters.inputVolume("t1") is None
    assert [study.problem for study in window.logic.studies(window.choices.model.spec)] == ["no volume for T1"]


# What lies in the slices


def backgrounds(slicer):
    return [view.GetBackgroundVolumeID() for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")]


def read(slicer, node):
    """Show a volume in all slice views, as a user does who reads it."""
    slicer.util.setSliceViewerLayers(background=node)


@pytest.mark.parametrize("modality", ["t1", "t1ce", "t2", "flair"])
def test_the_volume_that_was_read_stays_in_the_slices(slicer, window, modality):
    nodes = add_study(slicer, NAMES)
    read(slicer, nodes[modality])
    window.ui.segmentButton.click()
    assert set(backgrounds(slicer)) == {nodes[modality].GetID()}


def test_a_volume_of_the_study_that_is_no_input_stays_too(slicer, module, window):
    nodes = add_study(slicer)
    perfusion = add_volume(slicer, "9: PERF MAP")
    module.makeStudy("patient", "study", [*nodes.values(), perfusion])
    read(slicer, perfusion)
    window.ui.segmentButton.click()
    assert set(backgrounds(slicer)) == {perfusion.GetID()}


def test_each_view_keeps_its_own_volume(slicer, window):
    nodes = add_study(slicer)
    read(slicer, nodes["t2"])
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    views[1].SetBackgroundVolumeID(nodes["flair"].GetID())
    views[2].SetBackgroundVolumeID(None)
    window.ui.segmentButton.click()
    assert backgrounds(slicer) == [nodes["t2"].GetID(), nodes["flair"].GetID(), nodes["t2"].GetID()]


@pytest.mark.parametrize("studies", [True, False], ids=["in studies", "without studies"])
def test_another_patients_volume_makes_room_for_flair(slicer, module, window, studies):
    nodes, others = add_study(slicer), add_study(slicer, NAMES, prefix="b ")
    if studies:
        module.makeStudy("a", "MR", list(nodes.values()))
        module.makeStudy("b", "MR", list(others.values()))
    choose(window, nodes)
    read(slicer, others["t1ce"])
    window.ui.segmentButton.click()
    assert set(backgrounds(slicer)) == {nodes["flair"].GetID()}


def test_opening_the_editor_keeps_the_volume_in_the_slices_and_draws_on_it(slicer, window, editor):
    shown_now = backgrounds(slicer)
    assert editor.sourceVolumeNode().GetID() == shown_now[0] == window.choices.inputs()["flair"].GetID()
    window.ui.editButton.click()
    assert backgrounds(slicer) == shown_now


def fill_of(module, output):
    return output.GetDisplayNode().GetOpacity2DFill()


def test_the_outlines_are_whole_and_the_fill_is_light(slicer, module, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    display = window.choices.output().GetDisplayNode()
    assert display.GetVisibility2DOutline() and display.GetOpacity2DOutline() == 1
    assert fill_of(module, window.choices.output()) == pytest.approx(0.1) and display.GetVisibility2DFill()
    assert window.ui.fillSlider.value == 10


def test_the_fill_is_changed_by_one_slider_and_stays_for_the_next_results(slicer, module, window, two_patients):
    patients, results = two_patients
    window.ui.fillSlider.value = 60
    for result in results.values():
        assert fill_of(module, result) == pytest.approx(0.6)
    window.ui.segmentButton.click()
    third = window.logic.segment(add_study(slicer, prefix="three "))
    assert fill_of(module, results["two"]) == fill_of(module, third) == pytest.approx(0.6)


def test_a_fill_that_was_set_elsewhere_is_the_sliders(slicer, module, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    window.choices.output().GetDisplayNode().SetOpacity2DFill(0.35)
    window.updateGui()
    assert window.ui.fillSlider.value == 35
    window.ui.segmentButton.click()
    assert fill_of(module, window.choices.output()) == pytest.approx(0.35)


def test_the_slider_leaves_the_users_own_segments_alone(slicer, module, window):
    nodes = add_study(slicer)
    theirs = draw(slicer, "theirs", nodes["t1"])
    theirs.CreateDefaultDisplayNodes()
    window.logic.segment(nodes, outputSegmentation=theirs, confirmed=True)
    window.ui.outputSelector.setCurrentNode(theirs)
    display = theirs.GetDisplayNode()
    before = display.GetOpacity2DFill(), display.GetSegmentOpacity2DFill("mine")
    window.ui.fillSlider.value = 40
    assert (display.GetOpacity2DFill(), display.GetSegmentOpacity2DFill("mine")) == before
    ours = [display.GetOpacity2DFill() * display.GetSegmentOpacity2DFill(name) for name in ("TC", "ET")]
    assert ours == pytest.approx([0.4, 0.4])


def test_the_users_opacity_of_the_overlay_stays(slicer, window, probable):
    add_study(slicer)
    window.ui.segmentButton.click()
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert [view.GetForegroundOpacity() for view in views] == [0.5] * 3
    for view in views:
        view.SetForegroundOpacity(0.3)
    window.ui.segmentButton.click()
    assert [view.GetForegroundOpacity() for view in views] == [0.3] * 3
