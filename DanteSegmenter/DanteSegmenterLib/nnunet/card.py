"""README of an imported model, describing its origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..guard.plain_text import one_line
from ..model_folder.architectures import ARCHITECTURE_TITLES
from ..model_folder.spec import ModelSpec
from .results_folder import ResultsFolder

if TYPE_CHECKING:  # torch is imported when needed
    from ..networks.nnunet.checkpoint import Checkpoint


def card(spec: ModelSpec, source: ResultsFolder, checkpoint: Checkpoint) -> str:
    """The README as markdown; `checkpoint` is the first fold's."""
    spacing = " x ".join(f"{mm:g}" for mm in spec.preprocessing.spacing_mm)
    rows = {
        "segments": ", ".join(f"{region.name} ({region.id})" for region in spec.regions),
        "reads": ", ".join(f"{modality.label} ({modality.id})" for modality in spec.modalities),
        "network": ARCHITECTURE_TITLES[spec.limited.architecture],
        "grid": f"{spacing} mm, windows of {' x '.join(map(str, spec.patch))} voxels",
        "dataset": spec.training_data,
        "trainer": checkpoint.trainer,
        "plans": one_line(source.plans.get("plans_name", "")),
        "configuration": checkpoint.configuration,
        "folds": ", ".join(source.checkpoints),
        "epochs": "not said" if checkpoint.epochs is None else str(checkpoint.epochs),
    }
    lines = [f"| {key} | {one_line(value).replace('|', '/')} |" for key, value in rows.items()]
    return "\n".join(
        [f"# {spec.name}", "", "Imported from nnU-Net's results.", "", "| | |", "|---|---|", *lines, "", "## Cite", ""]
        + [f"- {citation}" for citation in spec.citations]
        + [""]
    )
