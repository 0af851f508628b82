"""The model card: a README for users of a model folder."""

from __future__ import annotations

from DanteSegmenterLib.model_folder import ModelSpec, Pathway
from DanteSegmenterLib.model_folder.architectures import ARCHITECTURE_TITLES

from ..settings.experiment import Experiment

CARD_FILE = "README.md"
# Methods with a pre-training stage, if `run.pretrain_steps` is not 0.
PRETRAINING_METHODS = ("dante", "vit")


def model_card(spec: ModelSpec, experiment: Experiment, *more: Experiment) -> str:
    """Markdown from `model.json` and the experiment; `more` are other members' experiments with different seeds."""
    spacing = " x ".join(f"{s:g}" for s in spec.preprocessing.spacing_mm)
    reads = ", ".join(spec.modality(modality).label for modality in spec.limited.modalities)
    regions = ", ".join(f"{region.name} ({region.id})" for region in spec.regions)
    lines = [
        f"# {spec.name} {spec.version}",
        "",
        spec.intended_use,
        "",
        f"Segments {regions} from {reads}.{_full_pathway(spec)}",
        "",
        "| | |",
        "|---|---|",
        f"| method | {experiment.method} |",
        f"| grid | {spacing} mm, {spec.preprocessing.orientation} |",
        f"| windows | {' x '.join(map(str, spec.patch))} voxels |",
        f"| network | {_network(spec)} |",
        f"| training | {_steps(experiment)} of {experiment.data.batch_size} patches, {_seeds(experiment, *more)} |",
        f"| data | {spec.training_data} |",
    ]
    if spec.licence:
        lines.append(f"| licence | {spec.licence} |")
    for title, scores in spec.scores.items():
        lines += [
            "",
            f"## {title}",
            "",
            f"| {' | '.join(scores)} |",
            f"|{'---|' * len(scores)}",
            f"| {' | '.join(f'{value:.3f}' for value in scores.values())} |",
        ]
    for title, pathway in (("", spec.limited), (", with the privileged scan", spec.full)):
        if pathway is not None and pathway.calibration:
            lines += ["", f"## How sure, how right{title}", "", *_calibration(pathway)]
    if spec.citations:
        lines += ["", "## Cite", "", *(f"- {citation}" for citation in spec.citations)]
    return "\n".join(lines) + "\n"


def _network(spec: ModelSpec) -> str:
    """Description of the deployed network; a transformer does not have the backbone's features."""
    name = spec.limited.architecture
    features = f", features {', '.join(map(str, spec.network.features))}" if name != "unetr" else ""
    members = len(spec.limited.members)
    averaged = f"; {members} of them, whose logits are averaged" if members > 1 else ""
    return f"{ARCHITECTURE_TITLES.get(name, name)}{features}{averaged}"


def _seeds(*experiments: Experiment) -> str:
    return f"seed{'s' * (len(experiments) > 1)} {', '.join(str(experiment.seed) for experiment in experiments)}"


def _full_pathway(spec: ModelSpec) -> str:
    if spec.full is None or spec.privileged is None:
        return ""
    return f" Where {spec.modality(spec.privileged).label} is given as well, it is used, by a second network."


def _calibration(pathway: Pathway) -> list[str]:
    lines = ["| region | cases | mean probability | right | true volume within the range |", "|---|---|---|---|---|"]
    for region, c in pathway.calibration.items():
        lines.append(
            f"| {region} | {c.cases} | {c.confidence:.0%} | {c.precision:.0%} | {c.range_holds:.0%} of cases |"
        )
    return lines


def _steps(experiment: Experiment) -> str:
    pretrained = experiment.run.pretrain_steps if experiment.method in PRETRAINING_METHODS else 0
    before = [f"{pretrained} steps of pre-training, "] if pretrained else []
    matured = experiment.mature_steps
    before += [f"{matured} of the full-modality network alone, "] if matured else []
    return f"{''.join(before)}{experiment.supervised_steps} steps"
