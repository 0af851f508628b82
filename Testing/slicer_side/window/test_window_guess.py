"""Guessed volumes in the boxes: the sample patient's, and those of the patient in view."""

import numpy as np
import pytest
from slicer_window import NAMES, add_study, add_volume, shown

LIMITED = ("t1", "t2", "flair")


def view(slicer, node):
    """Show a volume in the slices, like a user in the Data module or by dragging."""
    slicer.util.setSliceViewerLayers(background=node)
    slicer.app.processEvents()


def boxes(window):
    return {modality: selector.currentNode() for modality, selector in window.inputsPanel.selectors.items()}


def patient(slicer, module, name, modalities=LIMITED, prefix=""):
    """A study in the subject hierarchy; the volumes of all patients have equal names."""
    array = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    nodes = {m: slicer.util.addVolumeFromArray(array, np.eye(4), prefix + NAMES[m]) for m in modalities}
    module.makeStudy(name, "a study", list(nodes.values()))
    slicer.app.processEvents()
    return nodes


@pytest.fixture
def sample(slicer, module, window):
    nodes = module.loadSamplePatient(spacingMm=4.0)
    slicer.app.processEvents()
    return nodes


def test_sample_patient_is_segmented_without_the_contrast_t1(slicer, window, sample):
    assert boxes(window) == {**sample, "t1ce": None}
    assert window.ui.segmentButton.enabled and not shown(window.inputsPanel.guessLabels["t1ce"], window)


def test_one_click_adds_the_contrast_t1_of_the_sample_patient(slicer, window, sample):
    offer = window.inputsPanel.offerLabels["t1ce"]
    assert shown(offer, window) and sample["t1ce"].GetName() in offer.toolTip
    offer.linkActivated.emit("use")
    assert boxes(window) == sample and not shown(offer, window)
    window.ui.segmentButton.click()
    assert set(window.logic.inference.run.calls[0][1]) == set(sample)


def test_several_studies_treat_the_sample_patient_alike(window, sample):
    (study,) = window.logic.studies(window.choices.model.spec)
    assert set(study.inputs) == set(LIMITED) and not study.problem


def test_contrast_t1_of_a_real_patient_is_used(slicer, window):
    nodes = add_study(slicer, NAMES)
    assert boxes(window) == nodes and not shown(window.inputsPanel.offerLabels["t1ce"], window)


def test_removed_contrast_t1_is_offered_again(slicer, window):
    nodes = add_study(slicer, NAMES)
    window.inputsPanel.selectors["t1ce"].setCurrentNode(None)
    assert shown(window.inputsPanel.offerLabels["t1ce"], window)
    window.inputsPanel.offerLabels["t1ce"].linkActivated.emit("use")
    assert boxes(window) == nodes


def test_boxes_show_the_patient_in_view_of_two_with_equal_names(slicer, module, window):
    window.parent.exit()
    first, second = patient(slicer, module, "first"), patient(slicer, module, "second")
    for nodes in (second, first):
        view(slicer, nodes["t2"])
        window.parent.enter()
        assert boxes(window) == {**nodes, "t1ce": None}
        window.parent.exit()
    window.parent.enter()


def test_boxes_follow_the_patient_in_view(slicer, module, window):
    first = patient(slicer, module, "first")
    view(slicer, first["t1"])
    assert boxes(window) == {**first, "t1ce": None}
    second = patient(slicer, module, "second")
    assert boxes(window) == {**first, "t1ce": None}
    view(slicer, second["flair"])
    assert boxes(window) == {**second, "t1ce": None}
    assert all(shown(window.inputsPanel.guessLabels[modality], window) for modality in LIMITED)


def test_patients_without_studies_are_distinguished_by_name(slicer, window):
    nodes = {
        name: {modality: add_volume(slicer, f"{name}_{modality}") for modality in LIMITED} for name in ("anna", "bert")
    }
    for name in ("bert", "anna"):
        view(slicer, nodes[name]["flair"])
        assert boxes(window) == {**nodes[name], "t1ce": None}


def test_manual_choice_is_kept_whatever_is_in_view(slicer, module, window):
    first = patient(slicer, module, "first")
    view(slicer, first["t1"])
    second = patient(slicer, module, "second")
    window.inputsPanel.selectors["t1"].setCurrentNode(first["t1"])
    window.inputsPanel.selectors["t2"].setCurrentNode(None)
    window.inputsPanel.selectors["t2"].setCurrentNode(first["t2"])
    view(slicer, second["t1"])
    assert boxes(window) == {**first, "t1ce": None}


def test_empty_box_is_never_filled_from_another_patient(slicer, module, window):
    first = patient(slicer, module, "first")
    view(slicer, first["t1"])
    patient(slicer, module, "second", NAMES)
    assert boxes(window) == {**first, "t1ce": None}
    slicer.mrmlScene.Clear(0)
    half = patient(slicer, module, "half", ("t1", "t2"))
    view(slicer, half["t1"])
    patient(slicer, module, "whole")
    assert boxes(window) == {**half, "t1ce": None, "flair": None}


def test_volume_in_view_of_an_unsuitable_study_changes_nothing(slicer, module, window):
    nodes = patient(slicer, module, "first")
    view(slicer, add_volume(slicer, "MRHead"))
    assert boxes(window) == {**nodes, "t1ce": None}


def test_volumes_of_two_patients_are_warned_of_before_segment_is_clicked(slicer, module, window):
    mine, others = add_study(slicer), add_study(slicer, prefix="b ")
    module.makeStudy("a", "MR", [mine["t1"], mine["flair"]])
    module.makeStudy("b", "MR", list(others.values()))
    for modality, node in {"t1": mine["t1"], "t2": others["t2"], "flair": mine["flair"]}.items():
        window.inputsPanel.selectors[modality].setCurrentNode(node)
    named = ", ".join(f"'{node.GetName()}'" for node in (mine["t1"], others["t2"], mine["flair"]))
    assert window.ui.warningLabel.text == f"{named} are not of one patient. Choose volumes of one examination."
    window.inputsPanel.selectors["t2"].setCurrentNode(mine["t2"])  # in no study: nobody knows
    assert not shown(window.ui.warningFrame, window)
