"""The table of volumes of a result, updated when segments are edited by hand."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import qt
import slicer
import vtk
from slicer import vtkMRMLSegmentationNode
from slicer.util import VTKObservationMixin

from DanteSegmenterLib.guard.plain_text import csv_cell, one_line
from DanteSegmenterLib.result import Result
from DanteSlicerLib.scene.results import MODEL_ATTRIBUTE, ourResults
from DanteSlicerLib.scene.segments import isEdited, ourSegments, segmentVolumeMl

TABLE_ROLE = "DanteSegmenter.Table"
CONFIDENCE_COLUMN, OLD_CONFIDENCE_COLUMN = "Confidence", "Mean probability"  # in scenes of version 0.1
NUMBER_COLUMNS = ("Volume [mL]", "Volume low [mL]", "Volume high [mL]", CONFIDENCE_COLUMN)
MODEL_VOLUME_COLUMN = "Model volume [mL]"
EDITED_COLUMN = "Edited"
REGION_COLUMN = "Region"
EDIT_WAIT_MS = 400  # delay after the last stroke of an edit before the volumes are measured


class VolumeRow(NamedTuple):
    """A row of the volumes table: the current segment and the model's estimates.

    name: of the segment.
    volume: current volume in mL.
    low, high: the model's range of the volume, in mL.
    confidence: mean predicted probability inside the model's segment.
    model: name and version.
    modelVolume: volume of the model's segment in mL.
    edited: whether the segment differs from the model's output.
    region: its id; empty in tables of older scenes.
    """

    name: str
    volume: float
    low: float
    high: float
    confidence: float
    model: str
    modelVolume: float
    edited: bool
    region: str


def writeTable(output: vtkMRMLSegmentationNode, result: Result, model: str) -> None:
    """Write volumes in mL, their ranges and the confidence into the segmentation's table node."""
    table = output.GetNodeReference(TABLE_ROLE)
    if table is None:
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", one_line(f"{output.GetName()} volumes"))
        output.SetNodeReferenceID(TABLE_ROLE, table.GetID())
    rows = []
    for region, found in zip(result.spec.regions, result.report.findings):
        confidence = float("nan") if found.confidence is None else found.confidence
        numbers = found.volume_ml, found.low_ml, found.high_ml, confidence
        rows.append(VolumeRow(region.name, *numbers, model, found.volume_ml, False, region.id))
    fillTableNode(table, rows)


def fillTableNode(table, rows: Iterable[VolumeRow]) -> None:
    """Write rows into a table node; the CSV file has the same content."""
    titles = ("Segment", *NUMBER_COLUMNS, "Model", MODEL_VOLUME_COLUMN, EDITED_COLUMN, REGION_COLUMN)
    texts = ("Segment", "Model", EDITED_COLUMN, REGION_COLUMN)
    columns = [vtk.vtkStringArray() if title in texts else vtk.vtkDoubleArray() for title in titles]
    for column, title in zip(columns, titles):
        column.SetName(title)
    for row in rows:
        cells = row._asdict() | {"edited": "yes" if row.edited else ""}
        for column, value in zip(columns, cells.values()):
            column.InsertNextValue(value)
    table.RemoveAllColumns()
    for column in columns:
        table.AddColumn(column)


def followEdits(output: vtkMRMLSegmentationNode) -> bool:
    """Update a result's table from its current segments; returns whether any segment was edited."""
    table = output.GetNodeReference(TABLE_ROLE)
    segments, rows = ourSegments(output), []
    for row in readTable(table):
        segmentId = segments.get(row.region)
        if segmentId is not None:
            edited = isEdited(output, segmentId)
            volume = segmentVolumeMl(output, segmentId) if edited else row.modelVolume
            name = output.GetSegmentation().GetSegment(segmentId).GetName()
            row = row._replace(name=name, volume=volume, edited=edited)
        elif row.region:  # removed by the user
            row = row._replace(volume=0.0, edited=True)
        rows.append(row)
    if rows and rows != readTable(table):
        fillTableNode(table, rows)
    return any(row.edited for row in rows)


class EditWatch:
    """Updates the tables of this module's results shortly after an edit, without delaying drawing.

    It is active whichever module is shown, and also checks every result of a scene that was opened.
    """

    EVENTS = ("SourceRepresentationModified", "SegmentRemoved", "SegmentModified")

    def __init__(self, changed: Callable[[], None]):
        """
        Args:
            changed: called after tables were updated.
        """
        self._changed = changed
        self._due: set[str] = set()  # ids of segmentation nodes
        # By node id. One mixin a node: a mixin keeps each node that it ever observed, with all its voxels, until all
        # its observers are removed.
        self._observed: dict[str, VTKObservationMixin] = {}
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(EDIT_WAIT_MS)
        self._timer.timeout.connect(self.follow)
        scene, self._scene = slicer.mrmlScene, VTKObservationMixin()
        self._scene.addObserver(scene, scene.NodeAddedEvent, self.onNodeAdded)
        self._scene.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        self._scene.addObserver(scene, scene.EndImportEvent, self.onImported)
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            self.watch(node)

    @property
    def waiting(self) -> bool:
        return bool(self._due)

    def watch(self, node) -> None:
        if node.GetID() in self._observed:
            return
        observed = self._observed[node.GetID()] = VTKObservationMixin()
        for event in self.EVENTS:
            observed.addObserver(node, getattr(slicer.vtkSegmentation, event), self.onEdited)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node=None):
        if node is not None and node.IsA("vtkMRMLSegmentationNode"):
            self.watch(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node=None):
        observed = self._observed.pop(node.GetID(), None) if node is not None else None
        if observed is not None:
            observed.removeObservers()

    def onEdited(self, caller, event):
        if caller.GetID() and caller.GetAttribute(MODEL_ATTRIBUTE):
            self._due.add(caller.GetID())
            self._timer.start()

    def onImported(self, caller, event):
        self._due.update(node.GetID() for node in ourResults())
        self._timer.start()

    def follow(self) -> None:
        """Update the tables of the results edited since the last call."""
        self._timer.stop()
        nodes = [slicer.mrmlScene.GetNodeByID(nodeId) for nodeId in self._due]
        self._due.clear()
        for node in nodes:
            if node is not None:
                followEdits(node)
        if nodes:
            self._changed()

    def close(self) -> None:
        self._timer.stop()
        self._due.clear()
        for observed in (self._scene, *self._observed.values()):
            observed.removeObservers()
        self._observed.clear()


def saveTable(table, path: str | Path) -> None:
    """Save a table node written by `writeTable` as CSV."""
    columns = table.GetTable()
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([columns.GetColumnName(n) for n in range(columns.GetNumberOfColumns())])
        for row in range(columns.GetNumberOfRows()):
            texts = [columns.GetValue(row, n).ToString() for n in range(columns.GetNumberOfColumns())]
            writer.writerow([csv_cell(text) for text in texts])


def readTable(table) -> list[VolumeRow]:
    """Rows of a table node written by `writeTable`, including those from before segments could be edited."""
    if table is None or table.GetNumberOfColumns() < 1 + len(NUMBER_COLUMNS):
        return []
    columns, rows = table.GetTable(), []
    for n in range(table.GetNumberOfRows()):
        titles = [title if columns.GetColumnByName(title) else OLD_CONFIDENCE_COLUMN for title in NUMBER_COLUMNS]
        volume, low, high, confidence = (columns.GetValueByName(n, title).ToDouble() for title in titles)
        name, model, edited, region = (
            columns.GetValueByName(n, title).ToString() if columns.GetColumnByName(title) else ""
            for title in ("Segment", "Model", EDITED_COLUMN, REGION_COLUMN)
        )
        known = columns.GetColumnByName(MODEL_VOLUME_COLUMN) is not None
        modelVolume = columns.GetValueByName(n, MODEL_VOLUME_COLUMN).ToDouble() if known else volume
        rows.append(VolumeRow(name, volume, low, high, confidence, model, modelVolume, edited == "yes", region))
    return rows
