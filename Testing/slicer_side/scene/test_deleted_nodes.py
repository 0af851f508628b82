"""Deleted nodes: volumes in the boxes, results, masks, during a run and before it."""

from __future__ import annotations

import pytest
from slicer_scene import choose, delete, draw
from slicer_window import NAMES, add_study, add_volume, shown, until


def test_deleting_t1_empties_its_box_without_substitute(slicer, window):
    nodes = add_study(slicer, NAMES)
    assert window.ui.segmentButton.enabled
    delete(slicer, nodes["t1"])
    assert window.inputsPanel.selectors["t1"].currentNode() is None
    assert window.choices.parameters.inputVolume("t1") is None
    assert window.inputsPanel.selectors["t1ce"].currentNode() is nodes["t1ce"]
    assert not window.ui.segmentButton.enabled
    assert window.ui.segmentButton.toolTip == "Choose the volumes for: T1."


def test_deleted_volume_is_replaced_only_by_a_new_volume_of_the_same_patient(slicer, window):
    nodes, others = add_study(slicer), add_study(slicer, prefix="b ")
    choose(window, nodes)
    delete(slicer, nodes["t1"])
    assert window.choices.parameters.inputVolume("t1") is None
    delete(slicer, others["t1"])
    again = add_volume(slicer, NAMES["t1"])
    assert window.choices.parameters.inputVolume("t1") is again and shown(window.inputsPanel.guessLabels["t1"], window)


def test_deleting_an_unused_volume_changes_no_box(slicer, window):
    nodes, other = add_study(slicer), add_volume(slicer, "something")
    delete(slicer, other)
    assert window.choices.inputs() == nodes and window.ui.segmentButton.enabled


def test_input_deleted_while_another_module_is_shown_leaves_an_empty_box(slicer, window):
    nodes = add_study(slicer)
    others = add_study(slicer, prefix="b ")
    choose(window, nodes)
    window.parent.exit()
    delete(slicer, nodes["t1"])
    window.parent.enter()
    assert window.inputsPanel.selectors["t1"].currentNode() is None and not window.ui.segmentButton.enabled
    assert slicer.mrmlScene.IsNodePresent(others["t1"])


@pytest.mark.parametrize("order", ["before ours", "after ours"])
def test_deleting_our_result_does_not_select_the_users_segmentation(slicer, window, order):
    nodes = add_study(slicer)
    if order == "before ours":
        draw(slicer, "theirs", nodes["t1"])
    window.ui.segmentButton.click()
    if order == "after ours":
        draw(slicer, "theirs", nodes["t1"])
    delete(slicer, window.choices.output())
    assert window.choices.output() is None and window.ui.outputSelector.currentNode() is None


def test_input_deleted_during_a_run_is_not_stored_with_the_result(slicer, module, window):
    nodes = add_study(slicer)
    job = window.logic.begin(nodes)
    delete(slicer, nodes["t2"])
    _news, outcome = window.logic.inference.poll()
    for _step in window.logic.finish(job, outcome):
        pass
    roles = module.rolesOf(job.output, module.INPUT_ROLE)
    assert sorted(roles) == [module.INPUT_ROLE + modality for modality in ("flair", "t1")]


def test_deleted_brain_mask_is_replaced_by_none(slicer, window):
    nodes = add_study(slicer)
    masks = [draw(slicer, name, nodes["t1"]) for name in ("my brain", "my tumour")]
    window.choices.parameters.prepare = True
    window.ui.maskSelector.setCurrentNode(masks[0])
    assert window.choices.parameters.brainMask() is masks[0]
    delete(slicer, masks[0])
    assert window.choices.parameters.brainMask() is None and window.ui.maskSelector.currentNode() is None


def test_waiting_study_with_a_deleted_volume_is_reported_in_its_row(slicer, module, window):
    studies = {}
    for name in ("one", "two", "three"):
        studies[name] = add_study(slicer, prefix=f"{name} ")
        module.makeStudy("patient", name, list(studies[name].values()))
    window.severalStudies.refresh()
    window.ui.batchButton.click()  # the first is done at once, the others wait for the event loop
    slicer.mrmlScene.RemoveNode(studies["two"]["t2"])
    until(slicer, lambda: not window.severalStudies.running)
    table = window.ui.batchTable
    rows = {table.item(n, 0).text(): table.item(n, 1).text() for n in range(table.rowCount)}
    assert rows["patient, one"] == rows["patient, three"] == "done"
    assert rows["patient, two"] == "a volume was deleted"


def test_volumes_deleted_in_one_batch_empty_their_boxes(slicer, window):
    nodes, others = add_study(slicer), add_study(slicer, prefix="b ")
    choose(window, nodes)
    slicer.mrmlScene.StartState(slicer.vtkMRMLScene.BatchProcessState)
    for modality in ("t1", "t2"):
        slicer.mrmlScene.RemoveNode(nodes[modality])
    slicer.mrmlScene.EndState(slicer.vtkMRMLScene.BatchProcessState)
    slicer.app.processEvents()
    assert window.choices.inputs() == {"flair": nodes["flair"]}
    assert [box.currentNode() for box in window.inputsPanel.selectors.values()] == [None, None, None, nodes["flair"]]
    assert slicer.mrmlScene.IsNodePresent(others["t1"])
