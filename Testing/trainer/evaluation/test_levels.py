"""Networks in which the role of each level is known by construction."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from models import LIMITED, LPS_2MM, TINY_NETWORK, brain_spec
from torch import nn

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.files import write_volume
from DanteSegmenterLib.model_folder import sha256_of, write_spec
from DanteSegmenterLib.networks.build import FullNetwork
from DanteSegmenterLib.networks.fusion import Fusion
from DanteSegmenterLib.networks.unet import Decoder, Encoder, UNet, initialise
from DanteSegmenterLib.networks.weights import save_weights
from DanteSegmenterLib.volume import Volume
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.evaluation.levels import count_levels, levels_table, mean_of_levels, with_levels
from DanteTrainerLib.evaluation.tables import read_table

UP, SKIP = 0, 2  # channels of the decoder's input with the deep and the fine map


def pass_on(convolution, source):
    """Copy input channel `source` to output channel 0; all other outputs are 0."""
    nn.init.zeros_(convolution.weight)
    convolution.weight[0, source, 1, 1, 1] = 1


def network_that_reads(source):
    """Bright voxels of the first scan are tumour, read from the deep or the fine level."""
    network = UNet(3, 3, TINY_NETWORK)
    initialise(network)
    with torch.no_grad():
        blocks = [*network.encoder.blocks(), network.decoder.stages[0]]
        for stage in blocks:
            for block in stage:
                pass_on(block[0], 0)
        pass_on(network.decoder.stages[0][0][0], source)
        nn.init.zeros_(network.decoder.ups[0].weight)
        network.decoder.ups[0].weight[0, 0] = 1  # every voxel becomes a block of 2 x 2 x 2
        nn.init.zeros_(network.decoder.heads[0].weight)
        network.decoder.heads[0].weight[:, 0] = 1
        network.decoder.heads[0].bias.fill_(-0.5)
    return network


def write_model(folder, network):
    folder.mkdir()
    save_weights(network, folder / "limited.safetensors")
    write_spec(folder, brain_spec(sha256_of(folder / "limited.safetensors")))
    return folder


def write_cases(folder):
    """Two patients of 16^3 voxels, one window; a bright cube that the deep level can represent is enhancing."""
    for n, name in enumerate(("A", "B")):
        cube = np.zeros((16, 16, 16), np.uint8)
        cube[4:10, 2 + n * 4 : 8 + n * 4, 6:12] = 4
        (folder / name).mkdir(parents=True)
        for scan in LIMITED:
            write_volume(folder / name / f"{name}_{scan}.nii.gz", Volume(1 + (cube > 0).astype(np.float32), LPS_2MM))
        write_volume(folder / name / f"{name}_seg.nii.gz", Volume(cube, LPS_2MM))
    (folder / "split.json").write_text(json.dumps({"train": [], "val": [], "test": ["A", "B"]}))
    return folder


@pytest.mark.parametrize(("source", "left"), [(SKIP, 1.0), (UP, 0.0)])
def test_replacing_an_unused_level_changes_nothing_and_a_used_one_much(tmp_path, source, left, capsys):
    model = write_model(tmp_path / "model", network_that_reads(source))
    data, out = write_cases(tmp_path / "data"), tmp_path / "out"
    command = ["levels", str(model), "--data", str(data), "--out", str(out), "--device", "cpu", "--quiet"]
    assert main(command) == 0
    table = read_table(out / "levels.csv")
    assert table.case.tolist() == [*"AAABBB"] * 2 and table.region.tolist() == ["WT", "TC", "ET"] * 4
    assert (table[table.levels_kept == 2].dice == 1).all() and (table[table.levels_kept == 1].dice == left).all()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| none (as trained) | 1.000 | 1.000 | 1.000 | 0.0 | 0.0 | 0.0 |"
    assert lines[3].startswith(f"| levels >= 2 | {left:.3f} | {left:.3f} | {left:.3f} | {'0.0' if left else '-'} |")


def full_network():
    encoders = [Encoder(4, TINY_NETWORK) for _ in range(2)]
    network = FullNetwork(*encoders, Fusion(TINY_NETWORK), Decoder(3, TINY_NETWORK))
    initialise(network)
    return network.eval()


@torch.no_grad()
def test_fused_maps_of_the_full_network_are_replaced_without_copying_weights():
    network, image = full_network(), torch.randn(2, 4, 16, 16, 16)
    fine, deep = network.fusion(network.anchor(image), network.privileged(image))[0]
    flat = torch.ones_like(deep) * deep.flatten(2).mean(dim=2)[:, :, None, None, None]
    changed = with_levels(network, 1)
    torch.testing.assert_close(changed(image), network.decoder([fine, flat]))
    torch.testing.assert_close(with_levels(network, 2)(image), network(image), rtol=0, atol=0)
    places = [{parameter.data_ptr() for parameter in net.parameters()} for net in (network, changed)]
    assert places[0] == places[1] and isinstance(network.decoder, Decoder)


def test_levels_include_the_bottleneck_and_a_network_without_levels_is_refused():
    assert count_levels(full_network()) == 2
    with pytest.raises(ModelError, match="a Conv3d has no encoder levels whose maps go to a decoder"):
        with_levels(nn.Conv3d(3, 3, 1), 1)


def test_means_skip_missing_values_and_start_from_the_unchanged_network():
    rows = [(1, "A", "WT", 0.2), (1, "B", "WT", 0.4), (2, "A", "WT", 0.6), (2, "B", "WT", math.nan)]
    rows += [(kept, case, "ET", math.nan) for kept in (1, 2) for case in "AB"]
    table = pd.DataFrame(rows, columns=["levels_kept", "case", "region", "dice"]).assign(hd95_mm=math.nan)
    means = mean_of_levels(table)
    assert means.index.tolist() == [2, 1] and means.columns.tolist() == ["WT", "ET"]
    assert means.WT.tolist() == pytest.approx([0.6, 0.3]) and means.ET.isna().all()
    assert levels_table(table).splitlines()[2:] == [
        "| none (as trained) | 0.600 | - | - | - |",
        "| levels >= 2 | 0.300 | - | - | - |",
    ]
