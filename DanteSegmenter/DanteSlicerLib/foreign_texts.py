"""Texts that others wrote - a model's, a volume's name - shown in the window as they are: never as HTML.

Qt takes any text of a tool tip or a dialog that begins with a tag for HTML, which may show files of this computer. And
Slicer logs what its dialogs say; a log outlives the scene and is sent to others, so volumes are not named in it.
"""

import html
import logging
from contextlib import contextmanager

import qt
import slicer

from DanteSegmenterLib.guard.plain_text import LONG, one_line


def nodeName(node) -> str:
    """What a node is called, as one line that prints."""
    return one_line(node.GetName() or "")


def plainLabel(text: str):
    """A label that shows a text as it is."""
    label = qt.QLabel()
    label.setTextFormat(qt.Qt.PlainText)
    label.text = one_line(text, LONG)
    return label


def toolTip(text: str) -> str:
    """A text as a tool tip that shows it as it is."""
    line = one_line(text, LONG)
    return f"<qt>{html.escape(line)}</qt>" if "<" in line or "&" in line else line


def showError(message: str, windowTitle: str) -> None:
    """Say in a dialog what went wrong, and in the log without names of volumes."""
    with namesLeftOut():
        slicer.util.errorDisplay(message, windowTitle=windowTitle, textFormat=qt.Qt.PlainText)


def askYesNo(question: str, windowTitle: str) -> bool:
    with namesLeftOut():
        return slicer.util.confirmYesNoDisplay(question, windowTitle=windowTitle, textFormat=qt.Qt.PlainText)


@contextmanager
def namesLeftOut():
    """Meanwhile no record that is logged names a volume or segmentation of the scene: '...' stands there."""
    log, leaveOut = logging.getLogger(), _NamesLeftOut()
    log.addFilter(leaveOut)
    try:
        yield
    finally:
        log.removeFilter(leaveOut)


class _NamesLeftOut(logging.Filter):
    def filter(self, record):
        message = record.getMessage()
        for node in slicer.util.getNodesByClass("vtkMRMLDisplayableNode"):
            for name in {node.GetName() or "", nodeName(node)} - {""}:
                message = message.replace(f"'{name}'", "'...'")
        record.msg, record.args = message, ()
        return True
