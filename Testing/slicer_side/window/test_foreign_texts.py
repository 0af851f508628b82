"""Texts of a model and names of volumes, wherever the window shows them: as they are, and never in the log."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import Qt as QtOfTexts
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QLabel, QWidget
from slicer_window import NAMES, add_study, add_volume, model_folder, module, shown, slicer, window  # noqa: F401

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.model_folder import read_spec, write_spec

HTML = "<img src='file:///etc/x.png'><b>x</b>"
OWN_HTML = {"sampleLabel"}  # a text of ours with a link


def seen(text):
    """What a reader of a tool tip sees."""
    if not QtOfTexts.mightBeRichText(text):
        return text
    document = QTextDocument()
    document.setHtml(text)
    return document.toPlainText()


@pytest.fixture
def hostile(slicer, module, model_folder, tmp_path):
    """A model folder whose every text is HTML; forgotten afterwards."""
    folder = tmp_path / "models" / "hostile"
    shutil.copytree(model_folder, folder)
    spec = read_spec(folder)
    regions = tuple(replace(region, name=f"{HTML} {region.id}") for region in spec.regions)
    modalities = tuple(replace(modality, label=f"{HTML} {modality.id}") for modality in spec.modalities)
    write_spec(
        folder,
        replace(
            spec,
            name=HTML,
            training_data=HTML,
            licence=HTML,
            citations=(HTML,),
            intended_use=HTML,
            regions=regions,
            modalities=modalities,
        ),
    )
    yield folder
    slicer.app.userSettings().remove(module.ADDED_MODELS_SETTING)


def test_no_text_of_a_model_or_a_volume_is_read_as_html(slicer, window, hostile):
    window.modelPanel.addModel(str(hostile))  # Slicer remembers it
    add_study(slicer, prefix=HTML)
    window.ui.segmentButton.click()
    assert HTML in window.ui.aboutLabel.text and HTML in window.ui.modelInfoLabel.text
    labels = [label for label in window.parent.findChildren(QLabel) if HTML in label.property("text")]
    assert len(labels) >= 2 + len(window.inputsPanel.selectors)
    assert all(label.textFormat() == Qt.PlainText for label in labels)
    assert window.ui.modelSelector.currentText == f"{HTML} 1"
    assert window.ui.volumesTable.item(0, 0).text() == f"{HTML} WT"
    assert all("<img" not in widget.property("toolTip") for widget in window.parent.findChildren(QWidget))


def test_every_label_of_the_window_that_is_filled_later_shows_plain_text(window):
    for label in window.parent.findChildren(QLabel):
        if label.textFormat() != Qt.PlainText and label.property("objectName") not in OWN_HTML:
            text = label.property("text")
            assert "<" not in text or text.startswith('<a href="use">'), text  # ours
    for name in ("modelInfoLabel", "warningLabel", "statusLabel", "notesLabel", "aboutLabel"):
        assert getattr(window.ui, name).textFormat() == Qt.PlainText


def test_a_tool_tip_shows_a_volumes_name_as_it_is(slicer, window):
    node = add_volume(slicer, f"{HTML} & t1")
    for modality in ("t1", "t2", "flair"):
        window.inputsPanel.selectors[modality].setCurrentNode(node)
    tip = window.ui.segmentButton.toolTip
    assert seen(tip).startswith(f"'{HTML} & t1' is chosen for") and "<img" not in tip
    assert window.ui.statusLabel.text.startswith(f"'{HTML} & t1' is chosen for")


def test_the_table_of_studies_shows_names_as_they_are(slicer, module, window):
    module.makeStudy("<b>patient</b>", "a\n\x1b[31mstudy\u202e", list(add_study(slicer).values()))
    window.severalStudies.refresh()
    item = window.ui.batchTable.item(0, 0)
    assert item.text() == seen(item.toolTip()) == "<b>patient</b>, a [31mstudy"


def test_a_name_of_several_lines_is_one_line_in_every_message_and_of_every_node(slicer, window):
    add_study(slicer, prefix="a\nb\u202e\t")
    window.ui.segmentButton.click()
    assert window.choices.output().GetName().isprintable()
    window.ui.segmentButton.click()
    assert window.ui.statusLabel.text.isprintable()


@pytest.fixture
def log():
    """What is logged meanwhile, as Slicer's own log gets it."""
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    root, handler = logging.getLogger(), Keep()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)


def test_the_log_of_a_run_names_modalities_and_the_model_and_no_volume(slicer, window, log):
    run = window.logic.inference.run

    def run_with_a_note(*args):
        result = run(*args)
        return replace(result, report=replace(result.report, notes=("'MUELLER^HANS 3: AX T1' was turned.",)))

    window.logic.inference.run = run_with_a_note
    add_study(slicer, prefix="MUELLER^HANS ")
    window.ui.segmentButton.click()
    assert "MUELLER" in window.ui.notesLabel.text
    text = "\n".join(log)
    assert "segmenting t1, t2, flair with test model 1" in text and "Done in" in text
    assert "MUELLER" not in text and "/" not in text


def test_what_a_dialog_says_of_a_volume_is_not_in_the_log(slicer, window, log, monkeypatch):
    nodes, dialogs = add_study(slicer, prefix="MUELLER^HANS "), []
    window.logic.inference.run.error = InputError(f"'{nodes['t2'].GetName()}' is empty.")
    original = slicer.util.errorDisplay
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, **o: dialogs.append((text, o)) or original(text, **o))
    window.ui.segmentButton.click()
    assert dialogs[0][0] == f"'MUELLER^HANS {NAMES['t2']}' is empty." == window.ui.statusLabel.text
    assert dialogs[0][1]["textFormat"] == Qt.PlainText
    assert any("'...' is empty" in line for line in log) and not any("MUELLER" in line for line in log)
    assert not logging.getLogger().filters


def test_a_question_about_the_users_work_shows_names_as_they_are(slicer, window, log, monkeypatch):
    add_study(slicer)
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "MUELLER <b>x</b>")
    output.CreateDefaultDisplayNodes()
    output.GetSegmentation().AddEmptySegment("mine", "<i>mine</i>\n")
    window.choices.parameters.outputSegmentation = output
    asked = []
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda text, **o: asked.append((text, o)))
    window.ui.segmentButton.click()
    assert "'MUELLER <b>x</b>' holds '<i>mine</i>'" in asked[0][0]
    assert asked[0][1]["textFormat"] == Qt.PlainText
