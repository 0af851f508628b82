"""The table of volumes that belongs to a result, and how it follows corrections by hand."""

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
CONFIDENCE_COLUMN, OLD_CONFIDENCE_COLUMN = "Confidence", "Mean probability"  # as scenes of version 0.1 have it
NUMBER_COLUMNS = ("Volume [mL]", "Volume low [mL]", "Volume high [mL]", CONFIDENCE_COLUMN)
MODEL_VOLUME_COLUMN = "Model volume [mL]"
EDITED_COLUMN = "Edited"
REGION_COLUMN = "Region"
EDIT_WAIT_MS = 400  # after the last stroke of an edit, before its volumes are counted


class VolumeRow(NamedTuple):
    """A line of the table of volumes: a segment as it is, and what the model said of it.

    name: of the segment.
    volume: in mL, as the segment is now.
    low, high: the model's range of the volume, in mL.
    confidence: the model's mean probability inside its own segment.
    model: name and version.
    modelVolume: in mL, as the model made the segment.
    edited: whether the segment is not as the model made it.
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
    """Volumes in mL, their ranges and how sure the model is, as a table node that belongs to the segmentation."""
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
    """Put rows into a table node; what is in the scene and in the CSV file."""
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
    """Bring a result's table into agreement with its segments as they are now; whether any was edited."""
    table = output.GetNodeReference(TABLE_ROLE)
    segments, rows = ourSegments(output), []
    for row in readTable(table):
        segmentId = segments.get(row.region)
        if segmentId is not None:
            edited = isEdited(output, segmentId)
            volume = segmentVolumeMl(output, segmentId) if edited else row.modelVolume
            name = output.GetSegmentation().GetSegment(segmentId).GetName()
            row = row._replace(name=name, volume=volume, edited=edited)
        elif row.region:  # the user has removed it
            row = row._replace(volume=0.0, edited=True)
        rows.append(row)
    if rows and rows != readTable(table):
        fillTableNode(table, rows)
    return any(row.edited for row in rows)


class EditWatch(VTKObservationMixin):
    """Lets the tables of our results follow the segments, a moment after the last stroke: drawing never waits.

    It watches whichever module is shown, and looks at every result of a scene that was opened.
    """

    def __init__(self, changed: Callable[[], None]):
        """
        Args:
            changed: called after tables were brought up to date.
        """
        super().__init__()
        self._changed = changed
        self._due: set[str] = set()  # ids of segmentation nodes
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(EDIT_WAIT_MS)
        self._timer.timeout.connect(self.follow)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodeAdded)
        self.addObserver(scene, scene.EndImportEvent, self.onImported)
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            self.watch(node)

    @property
    def waiting(self) -> bool:
        return bool(self._due)

    def watch(self, node) -> None:
        kinds = slicer.vtkSegmentation
        for event in (kinds.SourceRepresentationModified, kinds.SegmentRemoved, kinds.SegmentModified):
            if not self.hasObserver(node, event, self.onEdited):
                self.addObserver(node, event, self.onEdited)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node=None):
        if node is not None and node.IsA("vtkMRMLSegmentationNode"):
            self.watch(node)

    def onEdited(self, caller, event):
        if caller.GetID() and caller.GetAttribute(MODEL_ATTRIBUTE):
            self._due.add(caller.GetID())
            self._timer.start()

    def onImported(self, caller, event):
        self._due.update(node.GetID() for node in ourResults())
        self._timer.start()

    def follow(self) -> None:
        """Look at what was edited since the last time."""
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
        self.removeObservers()


def saveTable(table, path: str | Path) -> None:
    """Write a table node that `writeTable` filled as CSV."""
    columns = table.GetTable()
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([columns.GetColumnName(n) for n in range(columns.GetNumberOfColumns())])
        for row in range(columns.GetNumberOfRows()):
            texts = [columns.GetValue(row, n).ToString() for n in range(columns.GetNumberOfColumns())]
            writer.writerow([csv_cell(text) for text in texts])


def readTable(table) -> list[VolumeRow]:
    """Rows of a table node that `writeTable` filled, in this version or before segments could be edited."""
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
