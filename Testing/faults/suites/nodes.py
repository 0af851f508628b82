"""Volume nodes that cannot be segmented, through the module's logic in the stand-in for Slicer."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from conftest import REPOSITORY
from models import LIMITED, LPS_2MM, study, write_brain_model

from faults.doors import SHAPE
from faults.suites.files import bad_arrays
from faults.tally import Case


class Scene:
    """The logic and the nodes of a good study."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(REPOSITORY / "Testing" / "app"))
        import slicer

        slicer.app.load_module(REPOSITORY / "DanteSegmenter" / "DanteSegmenter.py")
        self.slicer = slicer
        models = write_brain_model(folder / "models" / "tiny").parent
        self.logic = sys.modules["DanteSegmenter"].DanteSegmenterLogic(embeddedModels=models)
        self.good = {name: self.node(volume.array, name) for name, volume in study(SHAPE).items()}

    def node(self, array: np.ndarray, name: str, matrix: np.ndarray = LPS_2MM) -> Any:
        return self.slicer.util.addVolumeFromArray(array, matrix, name)

    def of_class(self, name: str) -> Any:
        return self.slicer.mrmlScene.AddNewNodeByClass(name, "odd")

    def with_(self, modality: str, node: Any) -> Callable[[], None]:
        return self.segmenting({**self.good, modality: node})

    def segmenting(self, nodes: dict[str, Any], **choices: Any) -> Callable[[], None]:
        return lambda: self.logic.segment(nodes, show3D=False, **{"device": "cpu", **choices})

    def close(self) -> None:
        self.logic.inference.close()
        self.slicer.app._folder.cleanup()  # the stand-in's own temporary folder


def cases(folder: Path, chance: random.Random) -> Iterator[Case]:
    scene = Scene(folder)
    try:
        yield from bad_nodes(scene)
        yield from bad_grids(scene)
        yield from bad_choices(scene)
    finally:
        scene.close()


def bad_nodes(scene: Scene) -> Iterator[Case]:
    for name, array in bad_arrays().items():
        for modality in LIMITED:
            yield f"{modality} is {name}", scene.with_(modality, scene.node(array, name))
    for modality in LIMITED:
        yield f"{modality} is missing", scene.with_(modality, None)
        yield f"{modality} has no image", scene.with_(modality, scene.of_class("vtkMRMLScalarVolumeNode"))
        yield f"{modality} is a text", scene.with_(modality, scene.of_class("vtkMRMLTextNode"))
        yield f"{modality} is a model of a surface", scene.with_(modality, scene.of_class("vtkMRMLModelNode"))
    yield "one node twice", scene.with_("t2", scene.good["t1"])
    yield "values beyond 1e18", scene.with_("t2", scene.node(study(SHAPE)["t2"].array * np.float64(1e30), "huge"))


def bad_grids(scene: Scene) -> Iterator[Case]:
    image = study(SHAPE)["t2"].array
    for spacing in (0.0, float("nan"), float("inf"), 1e-6, 500.0, 1e12):
        odd = scene.node(image, "odd", np.diag([spacing] * 3 + [1.0]))
        yield f"spacing {spacing}", scene.with_("t2", odd)
    elsewhere = LPS_2MM.copy()
    elsewhere[:3, 3] = 900
    yield "900 mm away", scene.with_("t2", scene.node(image, "elsewhere", elsewhere))


def bad_choices(scene: Scene) -> Iterator[Case]:
    good = scene.good
    yield "an unknown model", scene.segmenting(good, model="nowhere")
    for device in ("abacus", "cuda:99"):
        yield f"the device '{device}'", scene.segmenting(good, device=device)
    yield "an unknown modality", scene.segmenting({**good, "pet": good["t1"]})
    yield "nothing", scene.segmenting({})
