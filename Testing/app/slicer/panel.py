"""Stand-in for qSlicerModulePanel: the scrolled column in which Slicer shows a module.

Written from Slicer's sources: the module's widget gets the horizontal policy Minimum, so that its preferred width
becomes its minimum; and the panel is never narrower than its content, whatever the user drags. One detail reproduces
the observed behaviour of Slicer 5.13 (Qt 5.15): see `_squash`.
"""

from __future__ import annotations

from PySide6 import QtCore, QtWidgets

# The space for the module on a laptop with 1280 x 800 pixels, below the menus and beside the views.
LAPTOP = (450, 700)
# Rows squashed by Qt 5.15 had the height of a line of text.
LINE_HEIGHT = 14
SHRINKS = QtWidgets.QSizePolicy.Policy.Preferred.value & ~QtWidgets.QSizePolicy.Policy.Minimum.value


class ModulePanel(QtWidgets.QWidget):
    """Shows a module's widget below the folded section "Help & Acknowledgement". Not implemented: Data Probe, logo."""

    def __init__(self, module_widget: QtWidgets.QWidget) -> None:
        super().__init__()
        import ctk

        self._help = ctk.ctkCollapsibleButton()
        self._help.setProperty("text", "Help && Acknowledgement")
        self._help.setProperty("collapsed", True)
        self._help.setSizePolicy(QtWidgets.QSizePolicy.Ignored, QtWidgets.QSizePolicy.Fixed)
        self._contents = QtWidgets.QWidget()
        column = QtWidgets.QVBoxLayout(self._contents)
        column.addWidget(self._help)
        column.addWidget(module_widget, 1)
        column.addItem(
            QtWidgets.QSpacerItem(0, 0, QtWidgets.QSizePolicy.Minimum, QtWidgets.QSizePolicy.MinimumExpanding)
        )
        self.scroll = QtWidgets.QScrollArea()
        self.scroll.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarAlwaysOff)
        self.scroll.setWidgetResizable(True)
        self.scroll.setWidget(self._contents)
        layout = QtWidgets.QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.scroll)
        self._module = module_widget
        self._seen: set[QtWidgets.QWidget] = set()  # frames that were shown
        self._gone: set[QtWidgets.QWidget] = set()  # and then hidden
        module_widget.layout().setContentsMargins(0, 0, 0, 0)
        module_widget.setSizePolicy(QtWidgets.QSizePolicy.Minimum, module_widget.sizePolicy().verticalPolicy())
        module_widget.setVisible(True)
        module_widget.installEventFilter(self)
        self.setAttribute(QtCore.Qt.WA_DontShowOnScreen)

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        if event.type() == QtCore.QEvent.Resize:
            self.updateGeometry()
        return False

    def minimumSizeHint(self) -> QtCore.QSize:
        width = self._contents.minimumSizeHint().width() + self.scroll.horizontalScrollBar().sizeHint().width()
        return QtCore.QSize(width, super().minimumSizeHint().height())

    def settle(self, width: int = LAPTOP[0], height: int = LAPTOP[1]) -> None:
        """Apply the size given by the main window: this width, or the module's minimum."""
        for _ in range(4):  # layouts settle one level per round
            self.resize(max(width, self.minimumSizeHint().width()), height)
            self.show()
            QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.LayoutRequest)
            QtCore.QCoreApplication.processEvents()
        self._squash()

    def _squash(self) -> None:
        """A frame that is shown again gets only its minimum height, as do its neighbours and their rows."""
        frames = {f for f in self._module.findChildren(QtWidgets.QWidget) if f.layout() and self._is_frame(f)}
        visible = {frame for frame in frames if frame.isVisibleTo(self)}
        back = visible & self._gone
        self._gone = (self._gone | (self._seen - visible)) - visible
        self._seen = visible
        for frame in visible:
            beside = any(other.parentWidget() is frame.parentWidget() for other in back)
            if beside and frame.sizePolicy().verticalPolicy().value & SHRINKS:
                for row in frame.findChildren(QtWidgets.QComboBox):
                    row.resize(row.width(), LINE_HEIGHT)

    def _is_frame(self, widget: QtWidgets.QWidget) -> bool:
        import ctk

        return isinstance(widget.parentWidget(), ctk.ctkCollapsibleButton)

    def release(self) -> None:
        """Remove the module's widget, as Slicer does when another module is shown."""
        self._module.removeEventFilter(self)
        self._contents.layout().removeWidget(self._module)
        self._module.setParent(None)
        self.hide()

    def in_view(self, widget: QtWidgets.QWidget) -> bool:
        """Whether a widget is completely visible without further scrolling."""
        viewport = self.scroll.viewport()
        if not widget.isVisibleTo(self):
            return False
        corner = widget.mapTo(viewport, QtCore.QPoint(0, 0))
        return viewport.rect().contains(QtCore.QRect(corner, widget.size()))
