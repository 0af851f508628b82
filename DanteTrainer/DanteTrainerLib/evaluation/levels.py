"""Contribution of an encoder's levels: scores with the feature maps of deep levels replaced by their means.

If a level's maps can be replaced by one number per channel and window without loss of Dice, it carries no spatial
information. After a short training this holds for all but the finest two levels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.inference import Model
from DanteSegmenterLib.inference.members import MeanOfMembers
from DanteSegmenterLib.model_folder import Pathway
from DanteSegmenterLib.networks.unet import Decoder

from ..data.dataset import Dataset, check_cases, check_masks
from ..whole_files import make_writable
from .evaluate import evaluate_case
from .evaluated_model import load_for, pathway_of, with_one_network
from .tables import write_table

LEVELS_FILE = "levels.csv"
LEVEL_COLUMNS = ("case", "region", "dice", "hd95_mm")
TABLE_COLUMNS = ("levels_kept", *LEVEL_COLUMNS)


class MeansBelow(nn.Module):
    """A decoder that reads all but the `kept` finest maps as spatial means per sample and channel."""

    def __init__(self, decoder: Decoder, kept: int) -> None:
        super().__init__()
        self.decoder, self.kept = decoder, kept

    def forward(self, features: list[Tensor]) -> Tensor:
        """Feature maps Z_1 ... Z_N -> logits."""
        return self.decoder([z if n < self.kept else _flat(z) for n, z in enumerate(features)])


def _flat(z: Tensor) -> Tensor:
    means = z.mean(dim=(2, 3, 4), keepdim=True)
    return means.expand_as(z).contiguous(memory_format=torch.channels_last_3d)


def with_levels(network: nn.Module, kept: int) -> nn.Module:
    """A network with shared weights that keeps only the `kept` finest levels, in every member.

    The decoder's inputs are replaced: for f_F, the fused maps Z^F_n.

    Raises:
        ModelError: the network has no encoder levels that feed a decoder.
    """
    if isinstance(network, MeanOfMembers):
        return MeanOfMembers([with_levels(member, kept) for member in network.members]).eval()
    decoder = _decoder(network)
    changed = copy.deepcopy(network, {id(parameter): parameter for parameter in network.parameters()})
    changed.decoder = MeansBelow(decoder, kept)
    return changed


def has_levels(network: nn.Module) -> bool:
    """Whether the network has encoder levels that feed a decoder."""
    return isinstance(getattr(_first_member(network), "decoder", None), Decoder)


def _first_member(network: nn.Module) -> nn.Module:
    return network.members[0] if isinstance(network, MeanOfMembers) else network


def count_levels(network: nn.Module) -> int:
    """Number of levels N, including the bottleneck.

    Raises:
        ModelError: the network has no encoder levels that feed a decoder.
    """
    return len(_decoder(network).ups) + 1


def _decoder(network: nn.Module) -> Decoder:
    network = _first_member(network)
    decoder = getattr(network, "decoder", None)
    if not isinstance(decoder, Decoder):
        raise ModelError(
            f"a {type(network).__name__} has no encoder levels whose maps go to a decoder, none can be replaced; look "
            "at a model whose architecture is unet, gated or dante_full."
        )
    return decoder


def score_levels(
    model: Model, pathway: Pathway, dataset: Dataset, names: Sequence[str], mirror: bool = False, quiet: bool = True
) -> pd.DataFrame:
    """Scores on whole cases of the unchanged network, then with one more level replaced each time.

    Returns:
        table with columns levels_kept (N: unchanged, ..., 1), case, region, dice, hd95_mm.

    Raises:
        ModelError: the network has no levels.
        InputError: a case lacks a volume or a mask.
    """
    network = model.network(pathway)
    levels = count_levels(network)
    check_cases(dataset, names, pathway.modalities)
    check_masks(dataset, names)
    rows = []
    with tqdm(total=levels * len(names), desc="Segmenting", unit="case", disable=quiet) as bar:
        for kept in range(levels, 0, -1):
            changed = with_one_network(model, pathway, with_levels(network, kept))
            for name in names:
                scores = evaluate_case(changed, dataset.cases[name], pathway, mirror=mirror)
                rows += [{"levels_kept": kept, **{key: row[key] for key in LEVEL_COLUMNS}} for row in scores]
                bar.update()
    return pd.DataFrame(rows)


def mean_of_levels(table: pd.DataFrame, value: str = "dice") -> pd.DataFrame:
    """Means over cases, ignoring NaN: one row per `levels_kept`, N first, and one column per region."""
    regions = list(dict.fromkeys(table.region))
    means = table.pivot_table(index="levels_kept", columns="region", values=value, aggfunc="mean", dropna=False)
    return means.sort_index(ascending=False).reindex(columns=regions)


def levels_table(table: pd.DataFrame) -> str:
    """Scores with levels replaced by their means, as a markdown table."""
    dice, hd95 = (mean_of_levels(table, value) for value in ("dice", "hd95_mm"))
    heads = [f"{region} {value}" for value in ("Dice", "HD95 mm") for region in dice.columns]
    lines = [f"| replaced by means | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for kept in dice.index:
        cells = [f"{value:.3f}" for value in dice.loc[kept]] + [f"{value:.1f}" for value in hd95.loc[kept]]
        said = "none (as trained)" if kept == dice.index.max() else f"levels >= {kept + 1}"
        lines.append(f"| {said} | {' | '.join(cells).replace('nan', '-')} |")
    return "\n".join(lines)


def ablate_levels(
    model_folder: Path | str,
    dataset: Dataset,
    names: Sequence[str],
    out: Path,
    device: str = "auto",
    quiet: bool = False,
    full: bool = False,
    mirror: bool = False,
) -> pd.DataFrame:
    """Run `score_levels` for f_L, or with `full` for f_F, and write levels.csv to `out`.

    Raises:
        InputError: a case lacks a volume or a mask, or the model has no f_F.
        ModelError: the model folder cannot be used, or its network has no levels.
        ResourceError: `out` cannot be written; an existing table is kept.
    """
    model = load_for(dataset, model_folder, device)
    pathway = pathway_of(model.spec, full)
    count_levels(model.network(pathway))  # before a folder is created in vain
    make_writable(out)
    table = score_levels(model, pathway, dataset, names, mirror, quiet)
    write_table(table, out / LEVELS_FILE)
    return table
