"""Many cases in one picture: truth, where it is known, and prediction as outlines on the slice with most of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..model_folder.spec import ModelSpec
from ..volume import Volume

COLUMNS = 6

Tile = tuple[str, np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]


@dataclass
class Sheet:
    """Collects one slice a case; dashed outlines are the truth, solid ones the prediction."""

    spec: ModelSpec
    tiles: list[Tile] = field(default_factory=list)

    def add(
        self, name: str, image: Volume, truth: dict[str, np.ndarray] | None, prediction: dict[str, np.ndarray]
    ) -> None:  # fmt: skip
        """Keep the slice K where truth (or else prediction) is largest."""
        first = self.spec.regions[0].id
        truth = truth or {region: np.zeros_like(mask) for region, mask in prediction.items()}
        area = truth[first].sum(axis=(1, 2)) if truth[first].any() else prediction[first].sum(axis=(1, 2))
        k = int(area.argmax()) if area.any() else image.shape[0] // 2
        self.tiles.append((name, image.array[k].copy(), _slices(truth, k), _slices(prediction, k)))

    def save(self, path: Path) -> None:
        """Draw what was collected."""
        from matplotlib.figure import Figure

        rows = max(1, -(-len(self.tiles) // COLUMNS))
        figure = Figure(figsize=(2.4 * COLUMNS, 2.6 * rows), facecolor="black", layout="constrained")
        axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for panel in axes:
            panel.axis("off")
        for panel, (name, image, truth, prediction) in zip(axes, self.tiles):
            panel.imshow(image, cmap="gray", vmin=np.percentile(image, 1), vmax=np.percentile(image, 99.8))
            panel.set_title(name, color="white", fontsize=7)
            for masks, style in ((truth, "dashed"), (prediction, "solid")):
                for region in self.spec.regions:
                    if masks[region.id].any():
                        panel.contour(masks[region.id], [0.5], colors=[region.color], linewidths=0.9, linestyles=style)
        figure.savefig(path, dpi=110)


def _slices(masks: dict[str, np.ndarray], k: int) -> dict[str, np.ndarray]:
    return {region: mask[k].copy() for region, mask in masks.items()}
