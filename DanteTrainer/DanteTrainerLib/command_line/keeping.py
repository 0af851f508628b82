"""Commands `publish` and `clean`."""

from __future__ import annotations

import argparse

from .common import model_folder, set_stop_message


def publish(options: argparse.Namespace) -> None:
    from ..release.publish import publish

    set_stop_message(options, "Stopped; nothing was published.")
    model, *more = map(model_folder, options.model)
    spec = publish(model, options.card, options.scores, options.to, options.half, more)
    members = f", {len(spec.limited.members)} members," if more else ""
    print(f"published {spec.name} {spec.version}{members} to {options.to}")


def clean(options: argparse.Namespace) -> None:
    from ..study.clean import clean

    set_stop_message(options, "Stopped; run it again for the rest.")
    print(clean(options.folder))
