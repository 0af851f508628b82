"""Texts of models and names of volumes in the window: shown verbatim, and never logged."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import Qt as QtOfTexts
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QLabel, QWidget
from slicer_window import NAMES, add_study, add_volume

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.model_folder import read_spec, write_spec

HTML = "<img src='file:///etc/x.png'><b>x</b>"
OWN_HTML = {"sampleLabel"}  # our own text with a link


def seen(text):
    """The text that a reader of a tool tip sees."""
    if not QtOfTexts.mightBeRichText(text):
        return text
    document = QTextDocument()
    document.setHtml(text)
    return document.toPlainText()


@pytest.fixture
def hostile(slicer, module, model_folder, tmp_path):
    """A model folder whose every text is HTML; removed from the settings afterwards."""
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


def test_texts_of_models_and_volumes_are_never_rendered_as_html(slicer, window, hostile):
    window.modelPanel.addModel(str(hostile))  # Slicer saves it in the settings
    add_study(slicer, prefix=HTML)
    window.ui.segmentButton.click()
    assert HTML in window.ui.aboutLabel.text and HTML in window.ui.modelInfoLabel.text
    labels = [label for label in window.parent.findChildren(QLabel) if HTML in label.property("text")]
    assert len(labels) >= 2 + len(window.inputsPanel.selectors)
    assert all(label.textFormat() == Qt.PlainText for label in labels)
    assert window.ui.modelSelector.currentText == f"{HTML} 1"
    assert window.ui.volumesTable.item(0, 0).text() == f"{HTML} WT"
    assert all("<img" not in widget.property("toolTip") for widget in window.parent.findChildren(QWidget))


def test_labels_filled_later_show_plain_text(window):
    for label in window.parent.findChildren(QLabel):
        if label.textFormat() != Qt.PlainText and label.property("objectName") not in OWN_HTML:
            text = label.property("text")
            assert "<" not in text or text.startswith('<a href="use">'), text  # ours
    for name in ("modelInfoLabel", "warningLabel", "statusLabel", "notesLabel", "aboutLabel"):
        assert getattr(window.ui, name).textFormat() == Qt.PlainText


def test_tool_tip_shows_a_volume_name_verbatim(slicer, window):
    node = add_volume(slicer, f"{HTML} & t1")
    for modality in ("t1", "t2", "flair"):
        window.inputsPanel.selectors[modality].setCurrentNode(node)
    tip = window.ui.segmentButton.toolTip
    assert seen(tip).startswith(f"'{HTML} & t1' is chosen for") and "<img" not in tip
    assert window.ui.statusLabel.text.startswith(f"'{HTML} & t1' is chosen for")


def test_table_of_studies_shows_names_verbatim(slicer, module, window):
    module.makeStudy("<b>patient</b>", "a\n\x1b[31mstudy\u202e", list(add_study(slicer).values()))
    window.severalStudies.refresh()
    item = window.ui.batchTable.item(0, 0)
    assert item.text() == seen(item.toolTip()) == "<b>patient</b>, a [31mstudy"


def test_multi_line_name_becomes_one_line_in_messages_and_node_names(slicer, window):
    add_study(slicer, prefix="a\nb\u202e\t")
    window.ui.segmentButton.click()
    assert window.choices.output().GetName().isprintable()
    window.ui.segmentButton.click()
    assert window.ui.statusLabel.text.isprintable()


@pytest.fixture
def log():
    """The log records within this context, as in Slicer's own log."""
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


def test_log_of_a_run_names_modalities_and_model_but_no_volume(slicer, window, log):
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


def test_volume_named_in_a_dialog_is_not_in_the_log(slicer, window, log, monkeypatch):
    nodes, dialogs = add_study(slicer, prefix="MUELLER^HANS "), []
    window.logic.inference.run.error = InputError(f"'{nodes['t2'].GetName()}' is empty.")
    original = slicer.util.errorDisplay
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, **o: dialogs.append((text, o)) or original(text, **o))
    window.ui.segmentButton.click()
    assert dialogs[0][0] == f"'MUELLER^HANS {NAMES['t2']}' is empty." == window.ui.statusLabel.text
    assert dialogs[0][1]["textFormat"] == Qt.PlainText
    assert any("'...' is empty" in line for line in log) and not any("MUELLER" in line for line in log)
    assert not logging.getLogger().filters


def test_question_about_the_users_work_shows_names_verbatim(slicer, window, log, monkeypatch):
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
