"""The model card: a README for whoever finds a model folder."""

from __future__ import annotations

from DanteSegmenterLib.model_folder import ModelSpec

from .config import Experiment


def model_card(spec: ModelSpec, experiment: Experiment) -> str:
    """Markdown from what `model.json` and the experiment say."""
    spacing = " x ".join(f"{s:g}" for s in spec.preprocessing.spacing_mm)
    reads = ", ".join(spec.modality(modality).label for modality in spec.limited.modalities)
    lines = [
        f"# {spec.name} {spec.version}",
        "",
        spec.intended_use,
        "",
        f"Segments {', '.join(f'{region.name} ({region.id})' for region in spec.regions)} from {reads}.",
        "",
        "| | |",
        "|---|---|",
        f"| method | {experiment.method} |",
        f"| grid | {spacing} mm, {spec.preprocessing.orientation} |",
        f"| windows | {' x '.join(map(str, spec.patch))} voxels |",
        f"| network | plain U-Net, features {', '.join(map(str, spec.network.features))} |",
        f"| training | {experiment.run.steps} steps of {experiment.data.batch_size} patches, seed {experiment.seed} |",
        f"| data | {spec.training_data} |",
    ]
    if spec.licence:
        lines.append(f"| licence | {spec.licence} |")
    for title, scores in spec.scores.items():
        lines += ["", f"## {title}", "", f"| {' | '.join(scores)} |", f"|{'---|' * len(scores)}",
                  f"| {' | '.join(f'{value:.3f}' for value in scores.values())} |"]  # fmt: skip
    if spec.citations:
        lines += ["", "## Cite", "", *(f"- {citation}" for citation in spec.citations)]
    return "\n".join(lines) + "\n"
