"""Results of several patients in one scene: which is shown, and which inputs are chosen with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from models import write_brain_model
from slicer_scene import choose
from slicer_window import add_study, until

from DanteSegmenterLib.model_folder import read_spec, write_spec


def visible(result):
    """Visible in the slices and in 3D; the eye in the subject hierarchy is this property."""
    return bool(result.GetDisplayVisibility())


def test_result_of_a_second_patient_hides_the_first(two_patients):
    _patients, results = two_patients
    assert visible(results["two"]) and not visible(results["one"])


def test_after_several_studies_only_the_chosen_result_is_shown(slicer, module, window):
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


def test_two_patients_side_by_side_stay_in_their_views(slicer, module, window):
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


def test_several_studies_behind_another_module_select_the_last_one(slicer, module, window):
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


def test_console_run_hides_results_of_another_patient(slicer, module, window):
    first = window.logic.segment(add_study(slicer, prefix="one "))
    second = window.logic.segment(add_study(slicer, prefix="two "))
    assert visible(second) and not visible(first)


def test_choosing_volumes_shows_their_result_and_hides_others(window, two_patients):
    patients, results = two_patients
    choose(window, patients["one"])
    assert window.choices.output() is results["one"]
    assert visible(results["one"]) and not visible(results["two"])


def test_choosing_a_result_restores_its_volumes(slicer, window, two_patients):
    patients, results = two_patients
    window.ui.outputSelector.setCurrentNode(results["one"])
    slicer.app.processEvents()
    assert visible(results["one"]) and not visible(results["two"])
    assert window.choices.inputs() == patients["one"] and window.choices.output() is results["one"]
    backgrounds = {view.GetBackgroundVolumeID() for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}
    assert backgrounds <= {node.GetID() for node in patients["one"].values()}


def test_clicking_a_row_restores_that_study(slicer, window, two_patients):
    patients, results = two_patients
    window.severalStudies.refresh()
    names = [window.ui.batchTable.item(n, 0).text() for n in range(2)]
    window.ui.batchTable.cellClicked.emit(names.index("one, MR"), 0)
    assert window.choices.inputs() == patients["one"] and window.choices.output() is results["one"]
    assert visible(results["one"]) and not visible(results["two"])


def test_result_shown_by_its_eye_stays_until_another_is_chosen(slicer, window, two_patients):
    _patients, results = two_patients
    results["one"].SetDisplayVisibility(True)
    window.exit()
    window.enter()
    slicer.app.processEvents()
    assert visible(results["one"]) and visible(results["two"])


def test_users_segmentations_are_never_hidden(slicer, window, two_patients):
    patients, _results = two_patients
    theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn by the user")
    theirs.SetReferenceImageGeometryParameterFromVolumeNode(patients["one"]["t1"])
    theirs.CreateDefaultDisplayNodes()
    theirs.GetSegmentation().AddEmptySegment("mine", "mine")
    window.ui.segmentButton.click()
    choose(window, patients["one"])
    assert visible(theirs)


def test_only_our_segments_in_the_users_node_are_hidden(slicer, module, window, two_patients):
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


def test_results_of_two_models_for_one_volume_are_shown_together(slicer, window, two_patients):
    patients, results = two_patients
    another = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "another model's")
    window.logic.segment(patients["two"], outputSegmentation=another)
    assert visible(another) and visible(results["two"])


@pytest.fixture
def another_model(slicer, module, window, tmp_path):
    """The place in the list of a second model, which was added beside the first and is not chosen."""
    folder = write_brain_model(tmp_path / "another")
    write_spec(folder, replace(read_spec(folder), name="another"))
    window.modelPanel.addModel(str(folder))
    window.ui.modelSelector.setCurrentIndex(0)
    yield 1
    slicer.app.userSettings().remove(module.ADDED_MODELS_SETTING)


def test_another_models_result_is_not_written_over_and_each_model_brings_its_own_back(slicer, window, another_model):
    add_study(slicer)
    window.ui.segmentButton.click()
    first = window.choices.output()
    window.ui.modelSelector.setCurrentIndex(another_model)
    assert window.choices.output() is None
    window.ui.modelSelector.setCurrentIndex(0)
    assert window.choices.output() is first
    window.ui.modelSelector.setCurrentIndex(another_model)
    window.ui.segmentButton.click()
    second = window.choices.output()
    assert second is not first
    window.ui.modelSelector.setCurrentIndex(0)
    assert window.choices.output() is first
    window.ui.modelSelector.setCurrentIndex(another_model)
    assert window.choices.output() is second


def test_another_models_result_that_was_chosen_to_be_seen_stays_chosen(slicer, window, another_model):
    nodes = add_study(slicer)
    window.ui.segmentButton.click()
    first = window.choices.output()
    window.ui.modelSelector.setCurrentIndex(another_model)
    window.ui.outputSelector.setCurrentNode(first)
    window.parent.exit()
    window.parent.enter()
    slicer.mrmlScene.RemoveNode(nodes["t2"])
    slicer.app.processEvents()
    assert window.choices.output() is first
