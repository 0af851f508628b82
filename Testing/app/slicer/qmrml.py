"""Stand-ins for the qMRML and qSlicer widgets used by the modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import shiboken6
import vtk
from PySide6 import QtCore, QtWidgets

_WIDGET = "enabled visible toolTip styleSheet"


class qMRMLWidget(qt.like_pythonqt(QtWidgets.QWidget, _WIDGET, "slicer.qmrml")):
    """A widget with a scene. It does not pass the scene on to children: connections in .ui files are not made."""

    def setMRMLScene(self, scene: object) -> None:
        self._scene = scene

    def mrmlScene(self) -> object:
        return getattr(self, "_scene", None)


def _setting(store: str, name: str, kind: type) -> QtCore.Property:
    def write(self: qMRMLNodeComboBox, value: Any) -> None:
        getattr(self, store)[name] = value
        self._refresh()

    return QtCore.Property(kind, lambda self: getattr(self, store)[name], write)


class qMRMLNodeComboBox(qt.like_pythonqt(QtWidgets.QComboBox, f"{_WIDGET} count currentIndex", "slicer.qmrml")):
    """Offers the scene's nodes of some classes, and "None".

    Not implemented: adding, renaming, deleting and editing nodes from its menu; attribute filters; sorting; hierarchy.
    """

    currentNodeChanged = QtCore.Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._observations: list[tuple[Any, int]] = []
        self._nodeTypes: list[str] = []
        self._flags = {
            "noneEnabled": False,
            "showChildNodeTypes": True,
            "showHidden": False,
            "addEnabled": True,
            "removeEnabled": True,
            "renameEnabled": False,
            "editEnabled": False,
            "selectNodeUponCreation": True,
        }
        self._texts = {"noneDisplay": "None", "baseName": ""}
        self._last_id: str | None = None
        self.currentIndexChanged.connect(self._index_changed)
        self.destroyed.connect(self._forget_scene)

    def setMRMLScene(self, scene: Any) -> None:
        self._forget_scene()
        self._scene = scene
        if scene is None:
            return self._refresh()
        import slicer

        for event in ("NodeAdded", "NodeRemoved", "EndBatchProcess", "EndClose"):
            self._observe(scene, getattr(slicer.vtkMRMLScene, f"{event}Event"))
        leaving = slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent
        # Slicer's scene model is notified after all others: priority -10.
        self._observations.append((scene, scene.AddObserver(leaving, self._node_leaver(), -10.0)))
        self._refresh()

    def mrmlScene(self) -> object:
        return self._scene

    def currentNode(self) -> Any:
        node_id = self.currentNodeID
        return self._scene.GetNodeByID(node_id) if self._scene and node_id else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node else None)

    def setCurrentNodeID(self, node_id: str | None) -> None:
        index = self.findData(node_id) if node_id else (0 if self._flags["noneEnabled"] else -1)
        self.setCurrentIndex(index)

    def nodeCount(self) -> int:
        return self.count - int(self._flags["noneEnabled"])

    def _observe(self, obj: Any, event: Any) -> None:
        self._observations.append((obj, obj.AddObserver(event, lambda *_: self._scene_changed())))

    def _node_leaver(self) -> Callable[..., None]:
        """Like a removed row of a Qt combo box: the choice moves to the neighbour, with a user's signal."""

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def leaves(scene: Any, event: str, node: Any) -> None:
            if shiboken6.isValid(self) and node is not None and not scene.IsClosing():
                index = self.findData(node.GetID())
                if index >= 0:
                    self.removeItem(index)

        return leaves

    def _forget_scene(self, *_: object) -> None:
        for obj, tag in self._observations:
            obj.RemoveObserver(tag)
        self._observations = []

    def _scene_changed(self) -> None:
        if shiboken6.isValid(self):
            self._refresh()
        else:
            self._forget_scene()

    def _refresh(self) -> None:
        """Refill the list, keeping the choice if its node still exists."""
        chosen = self._last_id
        self.blockSignals(True)
        self.clear()
        if self._flags["noneEnabled"]:
            self.addItem(self._texts["noneDisplay"], None)
        for node in self._nodes():
            self.addItem(node.GetName() or "", node.GetID())
        index = self.findData(chosen) if chosen else -1
        self.setCurrentIndex(index if index >= 0 else (0 if self.count else -1))
        self.blockSignals(False)
        self._index_changed()

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        nodes = [self._scene.GetNthNode(n) for n in range(self._scene.GetNumberOfNodes())]
        return [node for node in nodes if self._offers(node)]

    def _offers(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self._flags["showHidden"]:
            return False
        if self._flags["showChildNodeTypes"]:
            return any(node.IsA(kind) for kind in self._nodeTypes)
        return node.GetClassName() in self._nodeTypes

    def _index_changed(self, *_: object) -> None:
        node_id = self.currentData()
        if node_id != self._last_id:
            self._last_id = node_id
            self.currentNodeChanged.emit(self.currentNode())

    def _set_types(self, types: list[str]) -> None:
        self._nodeTypes = [types] if isinstance(types, str) else [kind for kind in types if kind]
        self._refresh()

    nodeTypes = QtCore.Property("QStringList", lambda self: self._nodeTypes, _set_types)
    noneEnabled = _setting("_flags", "noneEnabled", bool)
    showChildNodeTypes = _setting("_flags", "showChildNodeTypes", bool)
    showHidden = _setting("_flags", "showHidden", bool)
    addEnabled = _setting("_flags", "addEnabled", bool)
    removeEnabled = _setting("_flags", "removeEnabled", bool)
    renameEnabled = _setting("_flags", "renameEnabled", bool)
    editEnabled = _setting("_flags", "editEnabled", bool)
    selectNodeUponCreation = _setting("_flags", "selectNodeUponCreation", bool)
    noneDisplay = _setting("_texts", "noneDisplay", str)
    baseName = _setting("_texts", "baseName", str)
    currentNodeID = property(lambda self: self.currentData() or "", lambda self, value: self.setCurrentNodeID(value))


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The C++ panel that holds a module's Python widget."""

    def __init__(self, module: qSlicerScriptedLoadableModule) -> None:
        super().__init__()
        self._module = module
        self._entered = False
        self.setLayout(QtWidgets.QVBoxLayout())
        self._python: Any = None
        self.reload()

    def reload(self) -> None:
        import slicer

        name = self._module.name
        self._python = getattr(importlib.import_module(name), f"{name}Widget")(self)
        setattr(slicer.modules, f"{name}Widget", self._python)
        self._python.setup()

    def self(self) -> Any:
        return self._python

    isEntered = property(lambda self: self._entered)

    def enter(self) -> None:
        self._entered = True
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self) -> None:
        self._entered = False
        if hasattr(self._python, "exit"):
            self._python.exit()


class qSlicerScriptedLoadableModule:
    """A scripted module in the application: its metadata, and its panel, created on first use."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.name = path.stem
        self.hidden = False
        self._panel: qSlicerScriptedLoadableModuleWidget | None = None
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        self._python = getattr(importlib.import_module(self.name), self.name)(self)

    def widgetRepresentation(self) -> qSlicerScriptedLoadableModuleWidget | None:
        """None if the module's file has no widget class; `slicer.util` then finds no logic either."""
        if self._panel is None and hasattr(importlib.import_module(self.name), f"{self.name}Widget"):
            self._panel = qSlicerScriptedLoadableModuleWidget(self)
        return self._panel
