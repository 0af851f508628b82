"""Stand-in for the application: `slicer.app`, `slicer.modules`, `slicer.mrmlScene` on the real MRML core."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import vtk
from PySide6 import QtCore, QtWidgets
from slicer.qmrml import (
    qMRMLNodeComboBox,
    qMRMLWidget,
    qSlicerScriptedLoadableModule,
    qSlicerScriptedLoadableModuleWidget,
)
from slicer_core import (
    vtkDataIOManagerLogic,
    vtkMRMLColorLegendDisplayNode,
    vtkMRMLInteractionNode,
    vtkMRMLRemoteIOLogic,
    vtkMRMLScene,
    vtkMRMLSliceNode,
    vtkSlicerApplicationLogic,
    vtkSlicerColorLogic,
    vtkSlicerSegmentationsModuleLogic,
    vtkSlicerSubjectHierarchyModuleLogic,
    vtkSlicerTerminologiesModuleLogic,
    vtkSlicerVolumesLogic,
)

__all__ = [
    "app",
    "modules",
    "mrmlScene",
    "qMRMLNodeComboBox",
    "qMRMLWidget",
    "qSlicerScriptedLoadableModule",
    "qSlicerScriptedLoadableModuleWidget",
    "selfTests",
]


APP_FOLDER = Path(__file__).resolve().parent.parent
ORIENTATIONS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}


class _Signals:
    """Signals connected by signature, implemented in Python."""

    def __init__(self) -> None:
        self._slots: dict[str, list[Callable[..., Any]]] = {}

    def connect(self, signature: str, slot: Callable[..., Any]) -> bool:
        self._slots.setdefault(signature, []).append(slot)
        return True

    def disconnect(self, signature: str, slot: Callable[..., Any]) -> bool:
        if slot in self._slots.get(signature, []):
            self._slots[signature].remove(slot)
        return True

    def emit(self, signature: str, *arguments: Any) -> None:
        for slot in list(self._slots.get(signature, [])):
            slot(*arguments)


class _ModuleManager(_Signals):
    def __init__(self) -> None:
        super().__init__()
        self._modules: dict[str, Any] = {}

    def module(self, name: str) -> Any:
        return self._modules.get(name)

    def register(self, name: str, module: Any) -> None:
        self._modules[name] = module
        setattr(modules, name.lower(), module)


class _CoreModule:
    """A C++ module of which only the logic exists."""

    def __init__(self, logic: Any) -> None:
        self._logic = logic

    def logic(self) -> Any:
        return self._logic


class Application(_Signals):
    """Not implemented: main window, layouts, views, DICOM, reading and writing by file type, extensions manager."""

    applicationName = "Slicer stand-in"

    def __init__(self) -> None:
        super().__init__()
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        self._qt = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["slicer-stand-in"])
        self._folder = tempfile.TemporaryDirectory(prefix="slicer-stand-in-")
        self.temporaryPath = self._folder.name
        self.slicerUserSettingsFilePath = os.path.join(self.temporaryPath, "Slicer.ini")
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
        QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, self.temporaryPath)
        self._qt.setOrganizationName("stand-in")
        self._manager: _ModuleManager | None = None
        self._logic: Any = None
        self._keep: list[Any] = []

    def start(self, scene: Any) -> None:
        """Set up what Slicer has before it loads modules: colours, the core logics, slice views and a 3D view."""
        self._manager = _ModuleManager()
        self._logic = vtkSlicerApplicationLogic()
        self._logic.SetMRMLScene(scene)
        self._logic.SetSliceLogics(vtk.vtkCollection())
        self._logic.SetViewLogics(vtk.vtkCollection())
        colors = self._logic.GetColorLogic()
        colors.SetMRMLScene(scene)
        colors.AddDefaultColorNodes()
        self._logic.SetModuleLogic("Colors", colors)
        self._add_file_colors(scene)
        # For colour legends. If given the scene, this logic would look for Slicer's colour files.
        self._manager.register("Colors", _CoreModule(vtkSlicerColorLogic()))
        scene.RegisterNodeClass(vtkMRMLColorLegendDisplayNode())
        for name, logic in (
            ("Volumes", vtkSlicerVolumesLogic()),
            ("Segmentations", vtkSlicerSegmentationsModuleLogic()),
            ("SubjectHierarchy", vtkSlicerSubjectHierarchyModuleLogic()),
        ):
            logic.SetMRMLApplicationLogic(self._logic)
            logic.SetMRMLScene(scene)
            self._logic.SetModuleLogic(name, logic)
            self._manager.register(name, _CoreModule(logic))
        self._add_terminologies(scene)
        self._connect_scene_files(scene)
        self._add_views(scene)

    def _add_file_colors(self, scene: Any) -> None:
        """Add two tables that Slicer reads from files missing in slicer-core: "jet", and "jet" from hot to cold."""
        jet = (
            [0, 28, 92, 156, 220, 255],
            [[0, 0, 143], [0, 0, 255], [0, 255, 255], [255, 255, 0], [255, 0, 0], [116, 0, 0]],
        )
        rows = [
            [np.interp(n, jet[0], [color[part] for color in jet[1]]) / 255 for part in range(3)] for n in range(256)
        ]
        for name, colors in (("ColdToHotRainbow", rows), ("HotToColdRainbow", rows[::-1])):
            node = scene.CreateNodeByClass("vtkMRMLColorTableNode")
            node.UnRegister(None)
            node.SetTypeToFile()
            node.SetName(name)
            node.SetSingletonTag(f"File{name}.txt")
            node.SetSaveWithScene(False)
            node.SetNumberOfColors(len(colors))
            for n, color in enumerate(colors):
                node.SetColor(n, str(n), *color, 1.0)
            scene.AddNode(node)

    def _add_terminologies(self, scene: Any) -> None:
        logic = vtkSlicerTerminologiesModuleLogic()
        self._keep.append(logic)
        self._manager.register("Terminologies", _CoreModule(logic))

    def _connect_scene_files(self, scene: Any) -> None:
        """Enable writing scenes to and reading them from .mrb files."""
        remote = vtkMRMLRemoteIOLogic()
        remote.SetMRMLScene(scene)
        remote.SetMRMLApplicationLogic(self._logic)
        remote.GetCacheManager().SetRemoteCacheDirectory(self.temporaryPath)
        manager = vtkDataIOManagerLogic()
        manager.SetMRMLScene(scene)
        manager.SetMRMLApplicationLogic(self._logic)
        manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
        remote.AddDataIOToScene()
        self._keep += [remote, manager]

    def _add_views(self, scene: Any) -> None:
        interaction = vtkMRMLInteractionNode()
        interaction.SetSingletonTag("Singleton")
        scene.AddNode(interaction)
        vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
        for name, orientation in ORIENTATIONS.items():
            for kind in ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode"):
                node = scene.CreateNodeByClass(kind)
                node.UnRegister(None)  # the scene created it and passed on its ownership
                node.SetSingletonTag(name)
                node.SetLayoutName(name)
                node = scene.AddNode(node)
                if kind == "vtkMRMLSliceNode":
                    node.SetOrientation(orientation)
        self._add_three_d_view(scene)
        scene.AddObserver(scene.EndCloseEvent, lambda *_: self._add_three_d_view(scene))

    def _add_three_d_view(self, scene: Any) -> None:
        """Add a 3D view and its camera, at Slicer's default position and looking at the origin."""
        if scene.GetSingletonNode("1", "vtkMRMLViewNode") is None:
            view = scene.CreateNodeByClass("vtkMRMLViewNode")
            view.UnRegister(None)
            view.SetSingletonTag("1")
            view.SetLayoutName("1")
            view.SetName("View1")
            scene.AddNode(view)
        if scene.GetFirstNodeByClass("vtkMRMLCameraNode") is None:
            camera = scene.AddNewNodeByClass("vtkMRMLCameraNode", "Camera")
            camera.SetLayoutName("1")

    def load_module(self, path: Path) -> qSlicerScriptedLoadableModule:
        """Load a scripted module file like an additional module path; the Segment Editor is loaded first."""
        if self._manager.module("SegmentEditor") is None:
            self._register(APP_FOLDER / "SegmentEditor.py")
        return self._register(path)

    def _register(self, path: Path) -> qSlicerScriptedLoadableModule:
        loaded = self._manager.module(Path(path).stem)
        if loaded is not None:  # loading it twice would leave the old panel behind, which also observes the scene
            return loaded
        module = qSlicerScriptedLoadableModule(Path(path))
        self._manager.register(module.name, module)
        return module

    def startup_completed(self) -> None:
        self.emit("startupCompleted()")

    def close(self) -> None:
        """Close the application: modules clean up."""
        for name in list(self._manager._modules):
            self._manager.emit("moduleAboutToBeUnloaded(QString)", name)

    def exit(self, status: int = 0) -> None:
        """Exit at once, without finishing the event loop: the teardown of Qt and VTK may crash."""
        self.close()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    def moduleManager(self) -> _ModuleManager:
        return self._manager

    def applicationLogic(self) -> Any:
        return self._logic

    def commandOptions(self) -> SimpleNamespace:
        return SimpleNamespace(noMainWindow=True, testingEnabled=self.testingEnabled())

    def testingEnabled(self) -> bool:
        return False

    def layoutManager(self) -> None:
        return None

    def topLevelWidgets(self) -> list[Any]:
        return []

    def userSettings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    settings = userSettings

    def processEvents(self, *_: object) -> None:
        self._qt.processEvents()
        self._qt.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)

    def setOverrideCursor(self, cursor: Any) -> None:
        self._qt.setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:
        self._qt.restoreOverrideCursor()


selfTests: dict[str, Callable[..., Any]] = {}
modules = SimpleNamespace()
mrmlScene = vtkMRMLScene()
vtk.vtkObject.GlobalWarningDisplayOn()
app = Application()
app.start(mrmlScene)
