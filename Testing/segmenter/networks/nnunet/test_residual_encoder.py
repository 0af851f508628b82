"""The residual encoder against a reference written with PyTorch's functions, and the names of its weights."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.model_folder import NetworkSpec
from DanteSegmenterLib.networks.nnunet.residual_encoder import BlockMeans, ResidualUNet
from DanteSegmenterLib.networks.nnunet.weight_names import module_names, weights_of_ours
from DanteSegmenterLib.networks.unet import UNet, initialise

SPEC = NetworkSpec(
    (4, 8, 8), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), ((1, 3, 3), (3, 3, 3), (3, 3, 3)), encoder_convs=(1, 2, 3),
    decoder_convs=(2, 1),
)  # fmt: skip


def filled(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            scale = 0.3 if name.endswith("bias") else 0.4
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale + (tensor.ndim == 1))
    return network.eval()


def conv(x, weights, name, stride=1):
    weight = weights[f"{name}.weight"]
    return functional.conv3d(
        x, weight, weights.get(f"{name}.bias"), stride, padding=[size // 2 for size in weight.shape[2:]]
    )


def norm(x, weights, name):
    return functional.instance_norm(x, weight=weights[f"{name}.weight"], bias=weights[f"{name}.bias"], eps=1e-5)


def block(x, weights, name, stride):
    """The definition (ResNet-D): two convolutions, with average pooling and a projection on the shortcut."""
    inner = functional.leaky_relu(norm(conv(x, weights, f"{name}.first.0", stride), weights, f"{name}.first.1"), 0.01)
    inner = norm(conv(inner, weights, f"{name}.second.0"), weights, f"{name}.second.1")
    pooled = max(stride) > 1
    around = functional.avg_pool3d(x, stride, stride) if pooled else x
    place = f"{name}.shortcut.{int(pooled)}"
    if f"{place}.weight" in weights:
        around = norm(conv(around, weights, place), weights, f"{name}.shortcut.{int(pooled) + 1}")
    return functional.leaky_relu(inner + around, 0.01)


def test_encoder_equals_its_definition():
    network = filled(ResidualUNet(2, 3, SPEC))
    weights = {name.removeprefix("encoder."): tensor for name, tensor in network.encoder.state_dict().items()}
    x = image = torch.randn(1, 2, 4, 12, 8, generator=torch.Generator().manual_seed(1))
    x = functional.leaky_relu(norm(conv(x, weights, "stem.0"), weights, "stem.1"), 0.01)
    with torch.no_grad():
        found = network.encode(image)
        for stage, (stride, blocks) in enumerate(zip(SPEC.strides, SPEC.encoder_convs)):
            for n in range(blocks):
                x = block(x, weights, f"stages.{stage}.{n}", stride if n == 0 else (1, 1, 1))
            assert torch.allclose(found[stage], x, atol=2e-4), stage
    assert [tuple(features.shape[1:]) for features in found] == [(4, 4, 12, 8), (8, 4, 6, 4), (8, 2, 3, 2)]


def test_shortcut_has_weights_only_where_features_change():
    names = {name for name in ResidualUNet(2, 3, SPEC).state_dict() if "shortcut" in name}
    assert names == {f"encoder.stages.1.0.shortcut.{part}" for part in ("1.weight", "2.weight", "2.bias")}


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2), (1, 1, 2), (3, 2, 1)])
def test_block_means_equal_pytorch_average_pooling(stride):
    x = torch.randn(2, 3, 6, 4, 8).to(memory_format=torch.channels_last_3d)
    found = BlockMeans(stride)(x)
    assert torch.allclose(found, functional.avg_pool3d(x, stride), atol=1e-6)
    assert torch.allclose(BlockMeans(stride)(x.bfloat16()).float(), found, atol=0.02)


def test_number_of_convolutions_per_stage_is_configurable():
    plain = UNet(2, 3, replace(SPEC, encoder_convs=(1, 2, 3), decoder_convs=(3, 1)))
    assert [len(stage) for stage in plain.encoder.stages] == [1, 2, 3]
    assert [len(stage) for stage in plain.decoder.stages] == [3, 1]
    assert UNet(2, 3, SPEC.__class__(SPEC.features, SPEC.strides, SPEC.kernels)).encoder.stages[2].__len__() == 2


THEIRS = {
    "encoder.stem.convs.0.conv.weight": "encoder.stem.0.weight",
    "encoder.stages.1.blocks.0.conv1.conv.weight": "encoder.stages.1.0.first.0.weight",
    "encoder.stages.2.blocks.2.conv2.norm.bias": "encoder.stages.2.2.second.1.bias",
    "encoder.stages.1.blocks.0.skip.1.conv.weight": "encoder.stages.1.0.shortcut.1.weight",
    "encoder.stages.1.blocks.0.skip.1.norm.weight": "encoder.stages.1.0.shortcut.2.weight",
    "decoder.transpconvs.0.weight": "decoder.ups.1.weight",  # nnU-Net counts from the bottleneck
    "decoder.stages.1.convs.1.conv.bias": "decoder.stages.0.1.0.bias",
    "decoder.seg_layers.1.weight": "decoder.heads.0.weight",
}


def as_theirs(network, residual):
    """The weights of a network under nnU-Net's names."""
    names = dict(module_names(SPEC, residual))
    split = ((*name.rpartition("."), tensor) for name, tensor in network.state_dict().items())
    return {f"{names[module]}.{kind}": tensor for module, _, kind, tensor in split}


@pytest.mark.parametrize("residual", [False, True])
def test_every_weight_is_found_by_name(residual):
    network = filled((ResidualUNet if residual else UNet)(2, 3, SPEC))
    theirs = as_theirs(network, residual)
    if residual:
        for own, ours in THEIRS.items():
            assert torch.equal(theirs[own], network.state_dict()[ours]), own
    # Wrapped for several devices, with the duplicates in a checkpoint.
    wrapped = {f"module.{name}": tensor for name, tensor in theirs.items()}
    wrapped["module.decoder.encoder.stem.convs.0.conv.weight"] = torch.zeros(1)
    wrapped["module.decoder.stages.0.convs.0.all_modules.0.weight"] = torch.zeros(1)
    found = weights_of_ours(network, SPEC, residual, wrapped, {})
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in network.state_dict().items())


def changed(theirs, change):
    theirs = dict(theirs)
    change(theirs)
    return theirs


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop("decoder.seg_layers.0.bias"), "missing 'decoder.seg_layers.0.bias', unknown none"),
        (lambda w: w.update({"encoder.stages.0.0.convs.0.norm.running_mean": torch.ones(4)}), "unknown 'encoder.sta"),
        (lambda w: w.update({"decoder.seg_layers.0.bias": torch.ones(4)}), "has shape \\(4,\\), wanted \\(3,\\)"),
        (lambda w: w.update({"decoder.seg_layers.0.bias": torch.ones(1).expand(1 << 40)}), "wanted \\(3,\\)"),
    ],
)
def test_weights_of_another_network_are_refused(change, reason):
    network = UNet(2, 3, SPEC)
    with pytest.raises(ModelError, match=reason):
        weights_of_ours(network, SPEC, False, changed(as_theirs(network, False), change), {})


def test_network_without_biases_equals_one_with_zero_biases():
    network = UNet(2, 3, SPEC)
    initialise(network)
    theirs = as_theirs(network, False)
    without = {name: tensor for name, tensor in theirs.items() if not name.endswith("conv.bias")}
    found = weights_of_ours(network, SPEC, False, without, {r"\.conv\.bias$": 0.0})
    biases = [name for name in found if name.startswith("encoder") and name.endswith("0.bias")]
    assert biases and not any(found[name].any() for name in biases)
