"""Several studies in the window: those of the scene, and a folder of cases."""

import csv

import pytest
from datasets import write_case
from slicer_window import NAMES, add_study, add_volume, until

from DanteSegmenterLib.errors import InputError


def states(window):
    table = window.ui.batchTable
    return {table.item(n, 0).text(): table.item(n, 1).text() for n in range(table.rowCount)}


@pytest.fixture
def studies(slicer, module, window):
    """Two complete studies and one without FLAIR."""
    nodes = {}
    for name, modalities in (("one", ("t1", "t2", "flair")), ("two", ("t1", "t2", "flair")), ("three", ("t1", "t2"))):
        nodes[name] = add_study(slicer, modalities, prefix=f"{name} ")
        module.makeStudy("patient", name, list(nodes[name].values()))
    slicer.app.processEvents()
    window.severalStudies.refresh()
    return nodes


def test_table_shows_what_would_run_and_what_is_missing(window, studies):
    assert states(window) == {
        "patient, one": "will run",
        "patient, two": "will run",
        "patient, three": "no volume for FLAIR",
    }
    assert window.ui.batchButton.enabled


def test_every_study_gets_its_own_result_and_is_finished_next_time(slicer, window, studies):
    window.ui.batchButton.click()
    until(slicer, lambda: not window.severalStudies.running)
    assert [states(window)[f"patient, {name}"] for name in ("one", "two")] == ["done", "done"]
    results = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert sorted(node.GetName() for node in results) == [
        f"one {NAMES['t1']} DANTE",
        f"two {NAMES['t1']} DANTE",
    ]
    window.severalStudies.refresh()
    assert states(window)["patient, one"] == "finished already" and not window.ui.batchButton.enabled


def test_studies_continue_while_another_module_is_shown(slicer, window, studies):
    window.ui.batchButton.click()
    window.parent.exit()
    until(slicer, lambda: not window.severalStudies.running)
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 2
    window.parent.enter()


def test_failed_study_does_not_stop_the_rest_and_opens_no_dialog(slicer, module, window, studies, monkeypatch):
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda *args, **options: pytest.fail("a dialog"))
    run = window.logic.inference.run

    def failing_once(folder, volumes, device, progress, cancelled):
        if volumes["t1"].name.startswith("one"):
            raise InputError("'one T1' cannot be used.")
        return run(folder, volumes, device, progress, cancelled)

    window.logic.inference.run = failing_once
    window.ui.batchButton.click()
    until(slicer, lambda: not window.severalStudies.running)
    assert states(window)["patient, one"] == "'one T1' cannot be used."
    assert states(window)["patient, two"] == "done"
    assert not window.runner.running and window.ui.batchButton.text == "Segment all"


def test_segment_waits_for_several_studies_and_closing_the_scene_stops_them(slicer, window, studies):
    window.ui.batchButton.click()
    assert window.severalStudies.running and not window.ui.segmentButton.enabled
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()
    assert not window.severalStudies.running and not window.runner.running


def test_segment_is_enabled_after_several_studies_and_the_last_report_stays(slicer, window, studies):
    assert window.ui.segmentButton.enabled
    window.ui.batchButton.click()
    assert window.ui.segmentButton.toolTip == "Several studies are being segmented."
    until(slicer, lambda: not window.severalStudies.running)
    assert window.ui.segmentButton.enabled and window.ui.segmentButton.toolTip == "Segment the chosen volumes."
    assert window.ui.statusLabel.text.startswith("Done in")


def test_brain_mask_of_one_patient_is_not_used_for_others(slicer, window, studies, monkeypatch):
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "the first patient's brain")
    window.choices.parameters.setBrainMask(mask)
    used, begin = [], window.logic.begin
    monkeypatch.setattr(window.logic, "begin", lambda *a, **options: used.append(options) or begin(*a, **options))
    window.ui.batchButton.click()
    until(slicer, lambda: not window.severalStudies.running)
    assert [options["brainMask"] for options in used] == [None, None]


def test_volumes_without_a_study_form_one_study(slicer, window):
    add_study(slicer)
    add_volume(slicer, "something else")
    window.severalStudies.refresh()
    assert list(states(window).values()) == ["will run"]


def test_patients_without_a_study_are_told_apart_by_the_names_of_their_volumes(slicer, window):
    for patient in ("Ada", "Bob"):
        for modality in ("t1", "t2", "flair"):
            add_volume(slicer, f"{patient}_{modality}")
    add_volume(slicer, "Eve_t1")
    window.severalStudies.refresh()
    assert states(window) == {"Ada_t1": "will run", "Bob_t1": "will run", "Eve_t1": "no volume for T2, FLAIR"}
    window.ui.batchButton.click()
    until(slicer, lambda: not window.severalStudies.running)
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")]
    assert sorted(names) == ["Ada_t1 DANTE", "Bob_t1 DANTE"]
    window.severalStudies.refresh()
    assert [states(window)[name] for name in ("Ada_t1", "Bob_t1")] == 2 * ["finished already"]


@pytest.fixture
def folder(window, tmp_path):
    for name in ("A", "B"):
        write_case(tmp_path / "cases" / name, seed=ord(name))
    bad = write_case(tmp_path / "cases" / "C", seed=3)
    next(bad.glob("*flair*")).unlink()
    window.ui.batchSourceSelector.setCurrentIndex(window.severalStudies.FOLDER)
    yield tmp_path / "cases"
    window.severalStudies.close()
    window.ui.batchSourceSelector.setCurrentIndex(window.severalStudies.SCENE)
    window.severalStudies.folder = window.severalStudies.out = None


def test_folder_is_segmented_in_a_process_and_finished_cases_are_skipped(slicer, window, folder, tmp_path):
    window.severalStudies.folder, window.severalStudies.out = folder, tmp_path / "results"
    window.severalStudies.refresh()
    assert states(window)["A"] == "will run" and "flair" in states(window)["C"]
    window.ui.batchButton.click()
    assert window.severalStudies.running
    until(slicer, lambda: not window.severalStudies.running)
    assert states(window)["A"].startswith("done") and states(window)["B"].startswith("done")
    assert states(window)["C"].startswith("failed") and "2 cases segmented" in window.ui.statusLabel.text
    written = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert written == ["A.seg.nrrd", "B.seg.nrrd", "contact_sheet.png", "summary.csv"]
    with open(tmp_path / "results" / "summary.csv", newline="", encoding="utf-8") as file:
        assert [line["state"] for line in csv.DictReader(file)] == ["done", "done", "failed"]
    window.severalStudies.refresh()
    assert states(window)["A"] == "finished already" and not window.ui.batchButton.enabled


def test_folder_can_be_stopped_and_the_window_stays_responsive(slicer, window, folder, tmp_path):
    window.severalStudies.folder, window.severalStudies.out = folder, tmp_path / "results"
    window.severalStudies.refresh()
    add_study(slicer)
    assert window.ui.segmentButton.enabled
    window.ui.batchButton.click()
    process = window.severalStudies._process
    slicer.app.processEvents()
    assert window.ui.batchButton.text == "Stop" and not window.ui.segmentButton.enabled
    window.ui.batchButton.click()
    assert window.ui.segmentButton.enabled
    assert not window.severalStudies.running and not process.running and window.ui.batchButton.text == "Segment all"


def test_empty_folder_is_reported_in_the_table(window, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    window.severalStudies.folder, window.severalStudies.out = tmp_path / "empty", tmp_path / "results"
    window.severalStudies.refresh()
    assert "holds no case" in next(iter(states(window).values())) and not window.ui.batchButton.enabled
    assert not (tmp_path / "results").exists()


def test_verbose_batch_process_is_not_blocked_by_a_full_pipe(slicer, window, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONVERBOSE", "1")  # a line for every import: more than a pipe holds
    window.severalStudies.folder, window.severalStudies.out = folder, tmp_path / "results"
    window.severalStudies.refresh()
    window.ui.batchButton.click()
    until(slicer, lambda: not window.severalStudies.running, 40)
    assert states(window)["A"].startswith("done") and states(window)["B"].startswith("done")
