"""Stand-in for the few CTK widgets used by the .ui files."""

from __future__ import annotations

import qt
from PySide6 import QtCore, QtWidgets


class ctkCollapsibleButton(qt.like_pythonqt(QtWidgets.QWidget, "enabled visible toolTip", "ctk")):
    """A foldable section: a header button above the widget's own layout, as wide as the layout's size hint.

    Not implemented: animation, `contentsFrameShape`, setting `collapsedHeight`.
    """

    contentsCollapsed = QtCore.Signal(bool)
    HEADER_HEIGHT = 26
    COLLAPSED_HEIGHT = 10  # CTK's default: the height left below the header of a folded section

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self._header = QtWidgets.QToolButton(self)
        self._header.setToolButtonStyle(QtCore.Qt.ToolButtonTextBesideIcon)
        self._header.setAutoRaise(True)
        self._header.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        self._header.setStyleSheet("QToolButton { border: none; background: palette(button); font-weight: bold; }")
        self._header.clicked.connect(self._toggle)
        self.setContentsMargins(0, self.HEADER_HEIGHT, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Minimum, QtWidgets.QSizePolicy.Preferred)
        self._draw_arrow()

    def sizeHint(self) -> QtCore.QSize:
        return self._hint(super().sizeHint(), self.COLLAPSED_HEIGHT)

    def minimumSizeHint(self) -> QtCore.QSize:
        return self._hint(super().minimumSizeHint(), 0)

    def _hint(self, hint: QtCore.QSize, below: int) -> QtCore.QSize:
        header = QtCore.QSize(self._header.sizeHint().width(), self.HEADER_HEIGHT)
        if self._collapsed:
            return header + QtCore.QSize(0, self.COLLAPSED_HEIGHT)
        return hint.expandedTo(header + QtCore.QSize(0, below))

    def resizeEvent(self, event: object) -> None:
        self._header.setGeometry(0, 0, self.width(), self.HEADER_HEIGHT)
        super().resizeEvent(event)

    def _toggle(self) -> None:
        self._set_collapsed(not self._collapsed)

    def _draw_arrow(self) -> None:
        self._header.setArrowType(QtCore.Qt.RightArrow if self._collapsed else QtCore.Qt.DownArrow)

    def _set_collapsed(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        self._draw_arrow()
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget) and child is not self._header:
                self._fold(child, collapsed)
        self.setMaximumHeight(self.sizeHint().height() if collapsed else 16777215)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    def _fold(self, child: QtWidgets.QWidget, collapsed: bool) -> None:
        """What somebody else has hidden stays hidden, as CTK has it."""
        if not (child.isHidden() and child.testAttribute(QtCore.Qt.WA_WState_ExplicitShowHide)):
            child.setVisible(not collapsed)
            child.setAttribute(QtCore.Qt.WA_WState_ExplicitShowHide, False)

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        child = event.child()
        if event.added() and self._collapsed and isinstance(child, QtWidgets.QWidget):
            self._fold(child, True)
        super().childEvent(event)

    def showEvent(self, event: object) -> None:
        self._set_collapsed(self._collapsed)  # children added after `collapsed` was set
        super().showEvent(event)

    collapsed = QtCore.Property(bool, lambda self: self._collapsed, _set_collapsed)
    text = QtCore.Property(str, lambda self: self._header.text(), lambda self, text: self._header.setText(text))


class ctkMessageBox(qt.like_pythonqt(QtWidgets.QMessageBox, "text icon detailedText windowTitle", "ctk")):
    """A message box; `slicer.util` creates one only with a main window, which the stand-in lacks."""
