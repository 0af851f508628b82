"""Stand-in for Slicer's `qt` (PythonQt) on PySide6: properties are attributes, signals connect by signature."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets
from PySide6.QtCore import QEvent, QEventLoop, QFile, QObject, QSettings, QSize, Qt, QTimer, QUrl
from PySide6.QtGui import QBrush, QColor, QDesktopServices, QFont, QIcon, QPixmap
from PySide6.QtWidgets import (
    QApplication,
    QFileDialog,
    QHeaderView,
    QMessageBox,
    QSizePolicy,
    QStyle,
    QTableWidgetItem,
)

__all__ = [
    "QApplication", "QBrush", "QCheckBox", "QColor", "QComboBox", "QDesktopServices", "QDialog", "QEvent", "QEventLoop",
    "QFile", "QFileDialog", "QFont", "QFormLayout", "QFrame", "QHBoxLayout", "QHeaderView", "QIcon", "QLabel",
    "QLineEdit", "QMessageBox", "QObject", "QPixmap", "QProgressBar", "QPushButton", "QSettings", "QSize",
    "QSizePolicy", "QSlider", "QStyle", "QTableWidget", "QTableWidgetItem", "QTimer", "QToolButton", "QUiLoader",
    "QUrl", "QVBoxLayout", "QWidget", "Qt",
]  # fmt: skip

if sys.version_info < (3, 12):
    # PySide6 6.12 returns None from every void function without counting the reference, as if None were immortal, which
    # it is only since Python 3.12: after some ten thousand calls the interpreter crashes.
    ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40


class PythonQtObject:
    """Methods of every wrapped object in PythonQt."""

    def __init_subclass__(cls, **options: Any) -> None:
        # Defined in every class: PySide6 finds QObject's own static `connect` before that of a parent class.
        cls.connect, cls.disconnect = PythonQtObject.connect, PythonQtObject.disconnect
        super().__init_subclass__(**options)

    def connect(self, signature: str, slot: Callable[..., Any]) -> bool:
        """`connect("clicked(bool)", f)`; like PythonQt, passes `f` as many of the arguments as it accepts."""
        getattr(self, signature.partition("(")[0]).connect(slot)
        return True

    def disconnect(self, signature: str, slot: Callable[..., Any]) -> bool:
        getattr(self, signature.partition("(")[0]).disconnect(slot)
        return True

    def className(self) -> str:
        return type(self).__name__

    def __setattr__(self, name: str, value: Any) -> None:
        # PythonQt refuses to add attributes to a C++ object, so a misspelt property must fail here too. (Objects may be
        # set: PySide6's loader adds every child to the widget it returns.)
        known = name.startswith("_") or hasattr(type(self), name) or isinstance(value, QtCore.QObject)
        if type(self).__module__ in _WRAPPING_MODULES and not known:
            raise AttributeError(f"{type(self).__name__} has no property '{name}'")
        super().__setattr__(name, value)


_WRAPPING_MODULES = {"qt", "ctk", "slicer.qmrml"}


def qt_property(name: str) -> property:
    return property(lambda self: self.property(name), lambda self, value: self.setProperty(name, value))


def like_pythonqt(base: type, names: str, module: str = "qt") -> type:
    """A subclass of a PySide6 class whose properties listed in `names` are attributes."""
    properties = {name: qt_property(name) for name in names.split()}
    properties["name"] = properties["objectName"] = qt_property("objectName")
    return type(base.__name__, (PythonQtObject, base), {**properties, "__module__": module})


_WIDGET = "enabled visible toolTip styleSheet windowTitle maximumHeight minimumHeight maximumWidth minimumWidth font"
_BUTTON = f"{_WIDGET} text checked checkable icon iconSize"

QWidget = like_pythonqt(QtWidgets.QWidget, _WIDGET)
QFrame = like_pythonqt(QtWidgets.QFrame, _WIDGET)
QDialog = like_pythonqt(QtWidgets.QDialog, f"{_WIDGET} modal")
QLabel = like_pythonqt(QtWidgets.QLabel, f"{_WIDGET} text wordWrap openExternalLinks alignment")
QPushButton = like_pythonqt(QtWidgets.QPushButton, _BUTTON)
QToolButton = like_pythonqt(QtWidgets.QToolButton, f"{_BUTTON} autoRaise")
QCheckBox = like_pythonqt(QtWidgets.QCheckBox, _BUTTON)
QLineEdit = like_pythonqt(QtWidgets.QLineEdit, f"{_WIDGET} text placeholderText readOnly")
QComboBox = like_pythonqt(QtWidgets.QComboBox, f"{_WIDGET} currentIndex currentText count")
QProgressBar = like_pythonqt(QtWidgets.QProgressBar, f"{_WIDGET} value minimum maximum textVisible format")
QSlider = like_pythonqt(QtWidgets.QSlider, f"{_WIDGET} value minimum maximum orientation")
QTableWidget = like_pythonqt(QtWidgets.QTableWidget, f"{_WIDGET} rowCount columnCount")
QFormLayout = like_pythonqt(QtWidgets.QFormLayout, "")
QVBoxLayout = like_pythonqt(QtWidgets.QVBoxLayout, "")
QHBoxLayout = like_pythonqt(QtWidgets.QHBoxLayout, "")


class QUiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file with the classes of this stand-in; an unknown class is an error, not a bare QWidget."""

    def load(self, file: QFile) -> Any:
        self._classes = _classes_by_name()
        self.clearPluginPaths()  # Qt Designer's own plugins would load half of Qt
        return super().load(file)

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        if class_name not in self._classes:
            raise LookupError(f"the .ui file uses {class_name}, which the stand-in does not have")
        widget = self._classes[class_name](parent)
        widget.setObjectName(name)
        return widget


def _classes_by_name() -> dict[str, type]:
    import ctk
    from slicer import qmrml

    found = {}
    for module in (globals(), vars(ctk), vars(qmrml)):
        found |= {name: value for name, value in module.items() if isinstance(value, type)}
    return {name: value for name, value in found.items() if issubclass(value, QtWidgets.QWidget)}
