"""Commands `evaluate`, `levels`, `cost`, `calibrate` and `features`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .common import model_folder, opened, set_stop_message


def evaluate(options: argparse.Namespace) -> None:
    from ..data.dataset import remarks_on_labels
    from ..evaluation.evaluate import evaluate

    set_stop_message(options, "Stopped; there are no new scores.")
    folder, dataset, split = opened(options)
    for remark in remarks_on_labels(dataset, split.part(options.split)):
        print(f"note: {remark}")
    dropped = list(dict.fromkeys(name.strip() for names in options.drop for name in names.split(",")))
    out = options.out or Path("-".join(["evaluation", options.split, *(["without", *dropped] if dropped else [])]))
    scores = evaluate(
        folder, dataset, split, options.split, out, options.device, options.quiet, options.full, options.mirror, dropped
    )
    print(scores.table())
    print(f"wrote {out}")


def levels(options: argparse.Namespace) -> None:
    from ..evaluation.levels import ablate_levels, levels_table

    set_stop_message(options, "Stopped; there are no new scores.")
    folder, dataset, split = opened(options)
    names = split.part(options.split)
    table = ablate_levels(
        folder, dataset, names, options.out, options.device, options.quiet, options.full, options.mirror
    )
    print(levels_table(table))
    print(f"wrote {options.out}")


def cost(options: argparse.Namespace) -> None:
    from DanteSegmenterLib.inference import load_model

    from ..data.dataset import check_cases
    from ..evaluation.cost import cost_of, training_cost, training_table
    from ..evaluation.evaluated_model import load_for, pathway_of

    set_stop_message(options, "Stopped; nothing was measured.")
    if options.data is None:
        cost = cost_of(load_model(model_folder(options.model), options.device), options.full)
    else:
        folder, dataset, split = opened(options)
        model, names = load_for(dataset, folder, options.device), split.part(options.split)[: max(1, options.cases)]
        check_cases(dataset, names, pathway_of(model.spec, options.full).modalities, labelled=False)
        cost = cost_of(model, options.full, [dataset.cases[name] for name in names])
    print(cost.table())
    stages = training_cost(options.model)
    if stages:
        print(training_table(stages))


def calibrate(options: argparse.Namespace) -> None:
    from ..evaluation.calibrate import calibrate, fits_table

    set_stop_message(options, "Stopped; the model is as before.")
    folder, dataset, split = opened(options)
    print(fits_table(calibrate(folder, dataset, split.part(options.split), options.device, options.quiet)))
    print(f"wrote {folder / 'model.json'}")


def features(options: argparse.Namespace) -> None:
    from ..evaluation.feature_map import draw_feature_map

    set_stop_message(options, "Stopped; there is no map.")
    folder, dataset, split = opened(options)
    names = split.part(options.split)
    draw_feature_map(folder, dataset, names, options.out, options.device, seed=options.seed)
    print(f"wrote {options.out}")
