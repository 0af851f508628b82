"""Command `info`: describe a model folder."""

from __future__ import annotations

import argparse

from ..model_folder.about import about
from ..model_folder.read_write import read_spec
from ..model_folder.spec import ModelSpec, Pathway
from ..program import StopRequest, say


def info(given: argparse.Namespace, stop: StopRequest) -> None:
    """Print a model's pathways, regions, grid and description."""
    describe(read_spec(given.model))


def describe(spec: ModelSpec) -> None:
    """Print the same for a description that has been read."""
    say(f"{spec.name} {spec.version} ({spec.task})")
    for name, pathway in spec.pathways.items():
        say(f"  {name:<8} reads {', '.join(pathway.modalities)}; weights {', '.join(pathway.files)}{_members(pathway)}")
    for region in spec.regions:
        say(f"  {region.id:<8} {region.name}: {region.terminology.type.meaning}")
    spacing = " x ".join(f"{s:g}" for s in spec.preprocessing.spacing_mm)
    say(f"  grid     {spacing} mm, windows {' x '.join(map(str, spec.patch))}")
    if spec.intended_use:
        say(f"  use      {spec.intended_use}")
    say(f"\n{about(spec)}")


def _members(pathway: Pathway) -> str:
    return f" ({len(pathway.members)} members)" if pathway.more else ""
