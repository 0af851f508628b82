"""Plain-text description of a model for lists: data, scores, calibration, licence, citations."""

from __future__ import annotations

from .spec import ModelSpec, Pathway


def about(spec: ModelSpec) -> str:
    """A few paragraphs from `model.json`; missing information is left out."""
    paragraphs = [f"Trained on: {spec.training_data}." if spec.training_data else ""]
    paragraphs += [f"{title}: {_figures(scores)}." for title, scores in spec.scores.items()]
    paragraphs.append(_members(spec))
    paragraphs += [_worth("Without", spec, spec.limited), _worth("With", spec, spec.full)]
    paragraphs.append(f"Licence: {spec.licence}." if spec.licence else "")
    paragraphs += [f"Cite: {citation}." for citation in spec.citations]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _figures(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in scores.items())


def _members(spec: ModelSpec) -> str:
    """Number of members; empty if every pathway has a single network."""
    most = max(len(pathway.members) for pathway in spec.pathways.values())
    return f"It averages {most} networks, which takes {most} times the time of one." if most > 1 else ""


def _worth(word: str, spec: ModelSpec, pathway: Pathway | None) -> str:
    """Confidence and precision on test cases."""
    if pathway is None or not pathway.calibration:
        return ""
    scan = f"{word} {spec.modality(spec.privileged).label}, on test cases: " if spec.privileged else "On test cases: "
    return scan + "; ".join(
        f"{region} {c.confidence:.0%} sure, {c.precision:.0%} right, the true volume within the range in "
        f"{c.range_holds:.0%} of {c.cases}"
        for region, c in pathway.calibration.items()
    )
