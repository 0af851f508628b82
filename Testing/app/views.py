"""Slice and 3D views of the scene, rendered off-screen by Slicer's own displayable managers."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import slicer
import vtk
from vtkmodules.util.numpy_support import vtk_to_numpy

if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

SLICE_MANAGERS = ("vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLColorLegendDisplayableManager")
THREE_D_MANAGERS = ("vtkMRMLSegmentationsDisplayableManager3D",)


class _View:
    """A render window with Slicer's displayable managers for one view node."""

    def __init__(self, size: tuple[int, int], factory: Any, managers: tuple[str, ...]) -> None:
        self.renderer = vtk.vtkRenderer()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetAlphaBitPlanes(1)
        self.window.SetSize(*size)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.Initialize()
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for manager in managers:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self.group.Initialize(factory, self.renderer)

    def picture(self) -> np.ndarray:
        """RGB uint8 [rows, columns, 3]."""
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        columns, rows, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1, :, :3].copy()


def slice_picture(name: str, size: tuple[int, int] = (320, 320)) -> np.ndarray:
    """The content of the slice view "Red", "Green" or "Yellow"; RGB uint8 [rows, columns, 3]."""
    view = _View(size, slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), SLICE_MANAGERS)
    view.renderer.GetActiveCamera().ParallelProjectionOn()
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    logic.SetMRMLScene(slicer.mrmlScene)
    slicer.app.applicationLogic().GetSliceLogics().AddItem(logic)
    node = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode")
    logic.SetSliceNode(node)
    logic.ResizeSliceNode(*size)
    offset = node.GetSliceOffset()
    logic.FitSliceToBackground()  # also moves to the middle of the volume
    if offset:
        logic.SetSliceOffset(offset)
    view.group.SetMRMLDisplayableNode(node)
    _wake_legends(logic.GetSliceCompositeNode())
    mapper, actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    mapper.SetInputConnection(logic.GetImageDataConnection())
    actor.SetMapper(mapper)
    actor.GetProperty().SetDisplayLocationToBackground()
    below = vtk.vtkRenderer()
    below.AddViewProp(actor)
    view.window.SetNumberOfLayers(2)
    view.renderer.SetLayer(1)
    view.window.AddRenderer(below)
    return view.picture()


def _wake_legends(composite: Any) -> None:
    """Notify a view created after the legends; in Slicer the views exist first."""
    before = composite.GetInteractionFlags()
    composite.SetInteractionFlags(composite.ForegroundVolumeFlag)
    for _ in range(2):  # the first call creates the actors, the second shows those whose volume is in the view
        composite.Modified()
    composite.SetInteractionFlags(before)


def three_d_picture(size: tuple[int, int] = (320, 320)) -> np.ndarray:
    """The scene's surfaces as seen by its camera; RGB uint8 [rows, columns, 3]."""
    view = _View(size, slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), THREE_D_MANAGERS)
    logic = slicer.vtkMRMLViewLogic()
    logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    logic.SetMRMLScene(slicer.mrmlScene)
    node = slicer.mrmlScene.GetSingletonNode("1", "vtkMRMLViewNode")
    view.group.SetMRMLDisplayableNode(node)
    view.renderer.GradientBackgroundOn()
    view.renderer.SetBackground(0.76, 0.76, 0.91)
    view.renderer.SetBackground2(0.45, 0.47, 0.75)
    view.renderer.SetUseDepthPeeling(True)
    seen, camera = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCameraNode"), view.renderer.GetActiveCamera()
    camera.SetPosition(seen.GetPosition())
    camera.SetFocalPoint(seen.GetFocalPoint())
    camera.SetViewUp(seen.GetViewUp())
    camera.SetViewAngle(seen.GetViewAngle())
    view.renderer.ResetCameraClippingRange()
    return view.picture()
