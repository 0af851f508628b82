"""Exported files compute the same as the network for every architecture; differences are detected."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from models import LIMITED, brain_spec

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.export.agreement import agreement_of, check_agreement
from DanteSegmenterLib.export.bundle import agreement_with, recorded
from DanteSegmenterLib.export.onnx_file import write_onnx
from DanteSegmenterLib.export.source import Source, noise, patient
from DanteSegmenterLib.model_folder import Normalisation, Pathway, Preprocessing
from DanteSegmenterLib.networks.baselines.vision_transformer import initialise_transformers
from DanteSegmenterLib.networks.build import ARCHITECTURES, build
from DanteSegmenterLib.networks.unet import initialise

OPTIONS = {
    "unetr": {"token": 8, "hidden": 12, "layers": 3, "heads": 2, "mlp": 16, "features": 2},
    "mmformer": {"token_width": 8, "heads": 2, "mlp_width": 16, "layers": 1, "narrowing": 1},
    "shaspec": {"substitute": 1},
}


def source(architecture="unet", **changes):
    """A tiny network with random weights for two modalities, so that one known to the architecture is absent."""
    pathway = Pathway("limited.safetensors", "0" * 64, LIMITED, architecture, OPTIONS.get(architecture, {}))
    spec = replace(brain_spec(), limited=pathway, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(spec, pathway)
        initialise(network)
        if architecture == "unetr":
            initialise_transformers(network)
    return Source(spec, "limited", pathway, network.eval().requires_grad_(False))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_exports_to_torchscript(architecture, tmp_path):
    one = source(architecture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(recorded(one), str(tmp_path / "model.ts"))
        found = agreement_with(one, tmp_path / "model.ts")
    assert found.holds and found.largest_logit > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_exports_to_onnx(architecture, tmp_path):
    found = write_onnx(source(architecture), tmp_path / "x.onnx")
    assert found.holds and found.largest_logit > 0.1


def test_difference_is_the_maximum_over_logits():
    one = source()

    def other(window):
        """The same, except for the last logit of each window."""
        logits = one.network(window)
        logits[:, -1, -1, -1, -1] += 0.25
        return logits

    with torch.no_grad():
        found = agreement_of(one, other)
        largest = max(float(one.network(w).abs().max()) for w in (noise(one), patient(one)))
    assert found.on_noise == pytest.approx(0.25, abs=1e-4) and found.on_patient == pytest.approx(0.25, abs=1e-4)
    assert found.largest_logit == pytest.approx(largest) and found.tolerated == pytest.approx(1e-3 * max(1, largest))
    assert not found.holds


@pytest.mark.parametrize("wrong", ["mirrored", "another size", "no numbers"])
def test_export_with_different_output_is_refused(wrong):
    one = source()

    def other(window):
        logits = one.network(window)
        return {"mirrored": logits.flip(-1), "another size": logits[..., :-1], "no numbers": logits * torch.nan}[wrong]

    with torch.no_grad(), pytest.raises(ModelError, match="does not compute what 'test model' does"):
        check_agreement(one, other, "file")


def test_generated_patient_is_valid_input():
    brain = patient(source())
    assert brain.shape == (1, 3, 16, 16, 16) and (brain != 0).float().mean() > 0.5
    window = Normalisation("ct_window", -160.0, 240.0, 40.0, 60.0)
    ct = source(
        preprocessing=Preprocessing("LPS", (16.0, 16.0, 40.0), dict.fromkeys(("t1", "t1ce", "t2", "flair"), window))
    )
    found = patient(ct).numpy()
    low, high = np.float32(-200 / 60), np.float32(200 / 60)
    # Coarse enough for the whole chest to fit the window: it is padded with air.
    assert found.min() == low and (found == low).mean() > 0.3 and found.max() <= high and found.std() > 0.5
