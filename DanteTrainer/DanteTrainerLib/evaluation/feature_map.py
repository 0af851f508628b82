"""t-SNE of bottleneck features Z^L, Z^A, Z^P over patches of a split (DANTE, AAAI 2026, Fig. 5).

Expected after alignment and compaction: Z^L and Z^A overlap, Z^P is separate from both.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.inference import Model, load_model
from DanteSegmenterLib.networks.dante_full import FullNetwork
from DanteSegmenterLib.networks.unet import Encoder, UNet

from ..data.cache import cache_cases
from ..data.dataset import Dataset, check_cases
from ..data.patches import PatchSource
from ..ending import on_stop
from ..whole_files import make_writable, write_whole
from .tables import write_table

CSV_FILE, PICTURE_FILE = "feature_map.csv", "feature_map.png"
COLOURS = {"Z^L": "tab:blue", "Z^A": "tab:orange", "Z^P": "tab:green"}
# Mean number of neighbours of a point; we require more patches than that, in three times as many points.
PERPLEXITY = 30
LEAST_PATCHES = PERPLEXITY + 1


def draw_feature_map(
    model_folder: Path,
    dataset: Dataset,
    names: Sequence[str],
    out: Path,
    device: str = "auto",
    patches_per_case: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """Write feature_map.csv (pathway, patch, x, y) and feature_map.png.

    Args:
        model_folder: a model with both pathways, trained with DANTE.
        names: names of the cases.
        patches_per_case: on average, more if that gives fewer than 31 patches in all; each contains a region if its
            case has one.
        seed: of the patches and of t-SNE.

    Raises:
        ModelError: the model has no full-modality DANTE network, or several members.
        InputError: cases lack files.
    """
    model = load_model(model_folder, device)
    encoders = _encoders(model)
    patches = max(len(names) * patches_per_case, LEAST_PATCHES)
    check_cases(dataset, names, dataset.task.full)
    make_writable(out)
    with _scratch(out) as scratch:
        cases = cache_cases([dataset.cases[name] for name in names], dataset.task, model.spec.preprocessing, scratch)
        source = PatchSource(cases, len(dataset.task.regions), model.spec.patch, 1, seed, "none", foreground_share=1.0)
        features = _features(model, encoders, source, patches, dataset.task.full)
    table = _embedded(features, seed)
    write_table(table, out / CSV_FILE)
    write_whole(out / PICTURE_FILE, lambda path: _draw(table, path))
    return table


@contextlib.contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """Folder for prepared patient images, removed afterwards."""
    folder = out / ".prepared"
    with on_stop(lambda _: shutil.rmtree(folder, ignore_errors=True)):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _encoders(model: Model) -> dict[str, tuple[Encoder, Sequence[str]]]:
    """Each encoder and the modalities that it reads."""
    full = model.spec.full
    if full is None or full.architecture != "dante_full":
        raise ModelError(f"'{model.spec.name}' holds no E_A and E_P; train method dante to map its features.")
    most = max(len(pathway.members) for pathway in (model.spec.limited, full))
    if most > 1:
        raise ModelError(
            f"'{model.spec.name}' averages the logits of {most} networks, each with features of its own; "
            "map those of the run of one seed."
        )
    # `build` creates these classes for that architecture.
    limited, both = cast(UNet, model.network(model.spec.limited)), cast(FullNetwork, model.network(full))
    return {
        "Z^L": (limited.encoder, model.spec.limited.modalities),
        "Z^A": (both.anchor, full.modalities),
        "Z^P": (both.privileged, full.modalities),
    }


@torch.inference_mode()
def _features(
    model: Model,
    encoders: dict[str, tuple[Encoder, Sequence[str]]],
    source: PatchSource,
    patches: int,
    modalities: Sequence[str],
) -> dict[str, np.ndarray]:
    """Bottleneck maps averaged over positions, float32 [patches, C] by encoder."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in encoders}
    for n in range(patches):
        images = source.batch(n).images.to(model.device)
        for name, (encoder, reads) in encoders.items():
            channels = [modalities.index(modality) for modality in reads]
            bottleneck = encoder.to(model.device)(images[:, channels])[-1]
            found[name].append(bottleneck.float().mean(dim=(0, 2, 3, 4)).cpu().numpy())
    return {name: np.stack(rows) for name, rows in found.items()}


def _embedded(features: dict[str, np.ndarray], seed: int) -> pd.DataFrame:
    from sklearn.manifold import TSNE

    rows = np.concatenate(list(features.values()))
    places = TSNE(perplexity=PERPLEXITY, init="pca", random_state=seed).fit_transform(rows)
    names = np.repeat(list(features), [len(values) for values in features.values()])
    patch = np.concatenate([np.arange(len(values)) for values in features.values()])
    return pd.DataFrame({"pathway": names, "patch": patch, "x": places[:, 0], "y": places[:, 1]})


def _draw(table: pd.DataFrame, path: Path) -> None:
    from DanteSegmenterLib.pictures.figure import new_figure

    figure = new_figure(figsize=(5, 4.6), layout="constrained")
    panel = figure.subplots()
    for name, rows in table.groupby("pathway", sort=False):
        panel.scatter(rows.x, rows.y, s=14, alpha=0.7, color=COLOURS[str(name)], label=f"${name}$")
    panel.set(xticks=[], yticks=[], title=f"Bottleneck features, t-SNE (perplexity {PERPLEXITY})")
    panel.legend()
    figure.savefig(path, dpi=110)
