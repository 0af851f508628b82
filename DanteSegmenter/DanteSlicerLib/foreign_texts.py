"""Shows text of foreign origin, such as a model's texts or a volume's name, verbatim and never as HTML.

Qt renders any tool tip or dialog text that begins with a tag as HTML, which may load files of this computer. Slicer
also logs the text of its dialogs; logs outlive the scene and are sent to others, so volume names are kept out of them.
"""

import html
import logging
from contextlib import contextmanager

import qt
import slicer

from DanteSegmenterLib.guard.plain_text import LONG, one_line


def nodeName(node) -> str:
    """The node's name as a single printable line."""
    return one_line(node.GetName() or "")


def plainLabel(text: str):
    """A label that shows a text verbatim."""
    label = qt.QLabel()
    label.setTextFormat(qt.Qt.PlainText)
    label.text = one_line(text, LONG)
    return label


def toolTip(text: str) -> str:
    """Convert a text to a tool tip that shows it verbatim."""
    line = one_line(text, LONG)
    return f"<qt>{html.escape(line)}</qt>" if "<" in line or "&" in line else line


def showError(message: str, windowTitle: str) -> None:
    """Show an error dialog, and log the message without volume names."""
    with namesLeftOut():
        slicer.util.errorDisplay(message, windowTitle=windowTitle, textFormat=qt.Qt.PlainText)


def askYesNo(question: str, windowTitle: str) -> bool:
    with namesLeftOut():
        return slicer.util.confirmYesNoDisplay(question, windowTitle=windowTitle, textFormat=qt.Qt.PlainText)


@contextmanager
def namesLeftOut():
    """Within this context, names of volumes and segmentations of the scene are logged as '...'."""
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
