"""Plans written by nnU-Net's planners, of common sizes and in both forms."""

import copy
from dataclasses import replace

import pytest
import torch
from models import brain_spec

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.model_folder import Normalisation, Pathway
from DanteSegmenterLib.model_folder.checks import check_network
from DanteSegmenterLib.model_folder.spec import SplineSteps
from DanteSegmenterLib.networks.build import build
from DanteSegmenterLib.nnunet.plans import read_plans

FEATURES = [32, 64, 128, 256, 320, 320]
STRIDES = [[1, 1, 1], *([[2, 2, 2]] * 4), [2, 2, 1]]
KERNELS = [[3, 3, 3]] * 6
SPLINES = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
BASE = {
    "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
    "patch_size": [128, 160, 112], "median_image_size_in_voxels": [140.0, 171.0, 136.0], "spacing": [1.0, 1.0, 1.0],
    "normalization_schemes": ["ZScoreNormalization", "ZScoreNormalization", "CTNormalization", "NoNormalization"],
    "use_mask_for_norm": [True, False, False, False], "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_seg": "resample_data_or_seg_to_shape", "resampling_fn_data_kwargs": SPLINES,
    "resampling_fn_seg_kwargs": {**SPLINES, "is_seg": True, "order": 1},
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": {**SPLINES, "order": 1}, "batch_dice": True, "next_stage": "3d_cascade",
}  # fmt: skip
OLD = {
    "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 32, "unet_max_num_features": 320,
    "n_conv_per_stage_encoder": [2] * 6, "n_conv_per_stage_decoder": [2] * 5, "num_pool_per_axis": [5, 5, 4],
    "pool_op_kernel_sizes": STRIDES, "conv_kernel_sizes": KERNELS,
}  # fmt: skip


def architecture(name, **more):
    return {
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
            "arch_kwargs": {
                "n_stages": 6, "features_per_stage": FEATURES, "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": KERNELS, "strides": STRIDES, "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}, **more,
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    }  # fmt: skip


PLAIN = architecture("PlainConvUNet", n_conv_per_stage=[2] * 6, n_conv_per_stage_decoder=[2] * 5)
RESIDUAL = architecture(
    "ResidualEncoderUNet", n_blocks_per_stage=[1, 3, 4, 6, 6, 6], n_conv_per_stage_decoder=[1, 1, 1, 1, 1]
)
NUMBERS = {
    "mean": 0.9,
    "std": 227.6,
    "percentile_00_5": -852.5,
    "percentile_99_5": 619.1,
    "median": 52.6,
    "max": 3412.0,
}


def plans(network, **changes):
    return {
        "dataset_name": "Dataset501_GoAT", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
        "configurations": {
            "3d_fullres": {**BASE, **network},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
        "foreground_intensity_properties_per_channel": {str(n): NUMBERS for n in range(4)}, **changes,
    }  # fmt: skip


def read(plain, name="3d_fullres"):
    return read_plans(copy.deepcopy(plain), name, 4, (0, 1, 2), "plans.json")


def test_old_and_new_plans_of_one_network_agree():
    assert read(plans(OLD)) == read(plans(PLAIN))


@pytest.mark.parametrize(
    ("network", "parameters"), [(PLAIN, 30_789_391), (RESIDUAL, 101_943_567)]
)  # counted with nnU-Net's own classes, 4 channels in, 3 out
def test_standard_networks_have_nnunet_parameter_counts(network, parameters):
    planned = read(plans(network))
    check_network(planned.network, planned.patch)
    spec = replace(brain_spec(), network=planned.network, patch=planned.patch)
    name = "residual_unet" if planned.residual else "unet"
    with torch.device("meta"):
        found = build(spec, Pathway("limited.safetensors", "0" * 64, ("t1", "t1ce", "t2", "flair"), name))
    assert sum(parameter.numel() for parameter in found.parameters()) == parameters


def test_every_channel_has_its_own_normalisation():
    assert read(plans(PLAIN)).normalisations == (
        Normalisation("zscore_nonzero"),
        Normalisation("zscore"),
        Normalisation("ct_window", -852.5, 619.1, 0.9, 227.6),
        Normalisation("none"),
    )


def test_steps_match_the_plans():
    steps = read(plans(PLAIN)).steps
    assert (steps.to_network, steps.to_image) == (SplineSteps(3, 0, None, 3.0), SplineSteps(1, 0, None, 3.0))


@pytest.mark.parametrize(
    ("reader", "orientation"), [("SimpleITKIO", "stored"), ("NibabelIO", "stored"), ("NibabelIOWithReorient", "RAS")]
)
def test_reader_defines_the_axis_directions(reader, orientation):
    assert read(plans(PLAIN, image_reader_writer=reader)).orientation == orientation


def test_configuration_inherits_except_for_its_own_values():
    plain = plans(PLAIN)
    plain["configurations"]["coarse"] = {"inherits_from": "3d_fullres", "spacing": [2.0, 2.0, 3.0]}
    plain["configurations"]["coarser"] = {"inherits_from": "coarse", "patch_size": [64, 64, 32]}
    found = read(plain, "coarser")
    assert (found.spacing_mm, found.patch) == ((2.0, 2.0, 3.0), (64, 64, 32))
    assert found.network == read(plain).network


def test_second_stage_of_a_cascade_is_refused():
    with pytest.raises(ModelError, match="reads the masks of '3d_lowres'"):
        read(plans(PLAIN), "3d_cascade_fullres")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"resampling_fn_data": "resample_torch_fornnunet"}, "resampling_fn_data is 'resample_torch_fornnunet'"),
        ({"resampling_fn_data_kwargs": {**SPLINES, "device": "cpu"}}, "unknown key 'device'"),
        ({"resampling_fn_data_kwargs": {**SPLINES, "is_seg": True}}, "are resampled as masks"),
        ({"resampling_fn_probabilities_kwargs": {**SPLINES, "is_seg": True}}, "are resampled as masks"),
        ({"preprocessor_name": "MyPreprocessor"}, "only DefaultPreprocessor can be imported"),
        ({"normalization_schemes": ["MyNormalization"] * 4}, "'MyNormalization' is not known"),
        ({"spacing": [1.0, 1.0]}, "spacing"),
        ({"use_mask_for_norm": [True]}, "names 4"),
    ],
)
def test_unknown_steps_are_refused(change, reason):
    plain = plans(PLAIN)
    plain["configurations"]["3d_fullres"].update(change)
    with pytest.raises(ModelError, match=reason):
        read(plain)
