"""What happens in the scene around a result: other patients' results, edits, deleted nodes, views, probabilities."""

from __future__ import annotations

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
