import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from DanteSegmenterLib.errors import Cancelled, ModelError, ResourceError
from DanteSegmenterLib.inference import sliding_window
from DanteSegmenterLib.inference.devices import fastest_dtype
from DanteSegmenterLib.inference.sliding_window import (
    Plan,
    gaussian_window,
    needed_windows,
    predict_logits,
    window_starts,
)
from DanteSegmenterLib.preprocess import Background

CPU = Plan(torch.device("cpu"), torch.float32, batch=2)


MR = Background((0.0,), (True,))
CT = Background((-2.0,), (False,))
NNUNET = Background((0.0,), (False,), like_nnunet=True)


def predict(
    network,
    image,
    patch=(8, 8, 8),
    channels_out=1,
    plan=CPU,
    progress=lambda share: None,
    cancelled=bool,
    background=MR,
):
    return predict_logits(network, image, background, patch, channels_out, plan, progress, cancelled)


class Identity(nn.Module):
    """Returns the first channel; its convolution can be hooked."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv3d(1, 1, 1, bias=False)
        nn.init.ones_(self.convolution.weight)

    def forward(self, x):
        return self.convolution(x[:, :1])


@pytest.mark.parametrize(
    "size,window,starts",
    [(8, 8, [0]), (5, 8, [0]), (12, 8, [0, 4]), (13, 8, [0, 2, 5]), (15, 8, [0, 4, 7]), (16, 8, [0, 4, 8])],
)
def test_windows_are_evenly_spaced_with_half_overlap(size, window, starts):
    assert window_starts(size, window) == starts


def test_weight_is_a_gaussian_with_sigma_one_eighth_of_the_window():
    weight = gaussian_window((17, 1, 1))[:, 0, 0]  # centre at 8, sigma 17/8
    assert weight[8] == 1
    assert weight[8 + 4].item() == pytest.approx(2.718281828 ** (-0.5 * (4 * 8 / 17) ** 2), rel=1e-5)
    assert torch.equal(weight, weight.flip(0))


def test_centre_of_an_even_window_matches_nnunet():
    # nnU-Net's weights are a peak at n // 2, smoothed by scipy with sigma n / 8 (nnunetv2, compute_gaussian).
    peak = np.zeros(64)
    peak[64 // 2] = 1
    expected = ndimage.gaussian_filter(peak, 64 / 8, mode="constant", cval=0)
    weight = gaussian_window((64, 1, 1))[:, 0, 0].numpy()
    assert weight.argmax() == 32
    assert weight[1:] == pytest.approx(expected[1:] / expected.max(), abs=1e-4)


@pytest.mark.parametrize(
    ("background", "share"),
    [(MR, 1 / 2), (NNUNET, np.exp(-16) / (np.exp(-16) + 6e-9))],  # both clamped, and only the second
    ids=["ours", "nnU-Net's"],
)
def test_corner_weights_are_small_and_tiny_in_nnunet_mode(background, share):
    """At voxel (4, 0, 0) the first window has e^-16 of its centre's weight, the second, whose corner it is, e^-24."""

    class FirstWindow(Identity):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) * (self.calls == 1)

    plan = Plan(torch.device("cpu"), torch.float32, batch=1)
    prediction, _ = predict(FirstWindow(), torch.ones(1, 12, 8, 8), plan=plan, background=background)
    assert prediction.logits[0, 4, 0, 0].item() == pytest.approx(share, rel=1e-5)


@pytest.mark.parametrize(("axes", "mean"), [((0, 1, 2), (3.5, 3.5, 3.5)), ((0,), (3.5, None, None)), ((), (None,) * 3)])
def test_mirrored_predictions_are_flipped_back_and_averaged(axes, mean):
    """An output that depends on position only, 0 to 7 along an axis of a window, becomes its mean of 3.5."""
    ramps = torch.meshgrid(*[torch.arange(8.0)] * 3, indexing="ij")

    class ByPlace(Identity):
        def forward(self, x):
            return super().forward(x) + ramps[0] + 10 * ramps[1] + 100 * ramps[2]

    image = torch.rand(1, 8, 8, 8) + 1
    plan = Plan(torch.device("cpu"), torch.float32, batch=1, mirror=True, axes=axes)
    k, j, i = (ramp if known is None else known for ramp, known in zip(ramps, mean))
    assert torch.allclose(predict(ByPlace(), image, plan=plan)[0].logits, image + k + 10 * j + 100 * i)


@pytest.mark.parametrize("shape", [(8, 8, 8), (13, 21, 9), (3, 8, 20), (1, 1, 1)])
def test_normalised_weights_reproduce_the_image(shape):
    image = torch.rand(1, *shape) + 1
    prediction, notes = predict(Identity(), image)
    logits = prediction.logits
    assert logits.shape == (1, *shape) and notes == ()
    assert torch.allclose(logits, image, atol=1e-5)


def test_constant_stays_constant():
    prediction, _ = predict(Identity(), torch.full((1, 30, 17, 11), 3.0))
    assert torch.allclose(prediction.logits, torch.tensor(3.0), atol=1e-5)


def test_background_windows_are_skipped_and_marked():
    image = torch.zeros(1, 32, 8, 8)
    image[:, :8] = 1
    assert needed_windows(image, MR, (8, 8, 8)) == [(0, 0, 0), (4, 0, 0)]
    prediction, _ = predict(Identity(), image)
    assert prediction.covered[:12].all() and not prediction.covered[12:].any()
    assert torch.isfinite(prediction.logits).all() and not prediction.logits[0, 12:].any()


def test_air_windows_are_skipped_in_a_ct_but_not_zeros():
    image = torch.full((1, 32, 8, 8), -2.0)
    image[:, :8] = 0  # the window's mean, like blood
    assert needed_windows(image, CT, (8, 8, 8)) == [(0, 0, 0), (4, 0, 0)]
    prediction, _ = predict(Identity(), image, background=CT)
    assert prediction.covered[:12].all() and not prediction.covered[12:].any()


def test_nnunet_mode_computes_background_windows():
    assert needed_windows(torch.zeros(1, 16, 8, 8), NNUNET, (8, 8, 8)) == [(0, 0, 0), (4, 0, 0), (8, 0, 0)]


def test_small_image_is_padded_with_the_background_of_each_channel():
    seen = []

    class Listening(Identity):
        def forward(self, x):
            seen.append(x.clone())
            return super().forward(x)

    image = torch.zeros(2, 4, 8, 6)
    predict(Listening(), image, background=Background((-2.0, 0.5), (False, False)))
    inner = torch.zeros(8, 8, 8, dtype=torch.bool)
    inner[2:6, :, 1:7] = True
    for channel, value in zip(seen[0][0], (-2.0, 0.5)):
        assert (channel[inner] == 0).all() and (channel[~inner] == value).all()


def test_half_precision_on_the_cpu_is_close():
    image = torch.rand(1, 12, 12, 12) + 1
    half, _ = predict(Identity(), image, plan=Plan(torch.device("cpu"), torch.bfloat16, 1))
    assert torch.allclose(half.logits, image, rtol=1e-2)


def test_progress_is_reported_for_every_convolution_of_every_batch():
    shares = []
    predict(Identity(), torch.ones(1, 16, 8, 8), progress=shares.append)  # three windows, two at once
    assert shares == [0, 0.5]


def test_cancel_stops_before_the_next_convolution():
    calls = []
    with pytest.raises(Cancelled):
        predict(Identity(), torch.ones(1, 64, 8, 8), cancelled=lambda: len(calls) > 2, progress=calls.append)
    assert len(calls) == 3


def test_hooks_are_removed_after_cancelling():
    network = Identity()
    with pytest.raises(Cancelled):
        predict(network, torch.ones(1, 8, 8, 8), cancelled=lambda: True)
    assert not network.convolution._forward_pre_hooks


class Hungry(Identity):
    """Runs out of memory for more than `limit` windows at once."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def forward(self, x):
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(x)


def test_out_of_memory_reduces_the_batch_with_a_note():
    image = torch.rand(1, 24, 8, 8) + 1
    prediction, notes = predict(Hungry(1), image, plan=Plan(torch.device("cpu"), torch.float32, batch=4))
    assert torch.allclose(prediction.logits, image, atol=1e-5)
    assert len(notes) == 2 and "1 window(s) at once" in notes[-1]


def test_out_of_memory_for_one_window_gives_advice():
    with pytest.raises(ResourceError, match="crop the volume"):
        predict(Hungry(0), torch.ones(1, 8, 8, 8))


def test_gpu_steps_down_to_the_cpu_in_single_precision():
    plan, steps = Plan(torch.device("cuda"), torch.float16, batch=2), []
    while plan := plan.smaller():
        steps.append((plan.device.type, plan.sums_on_device, plan.batch, plan.dtype))
    half, single = torch.float16, torch.float32
    assert steps == [("cuda", False, 2, half), ("cuda", False, 1, half), ("cpu", False, 1, single)]


def test_failing_device_steps_down_to_single_precision_first():
    plan, steps = Plan(torch.device("mps"), torch.float16, batch=1), []
    while plan := plan.smaller(out_of_memory=False):
        steps.append((plan.device.type, plan.sums_on_device, plan.dtype))
    single = torch.float32
    assert steps == [("mps", True, single), ("mps", False, single), ("cpu", False, single)]


class Device(Identity):
    """A stand-in for a graphics card: fails unless `works` returns true for the input."""

    def __init__(self, error, works):
        super().__init__()
        self.error, self.works = error, works

    def forward(self, x):
        if not self.works(x):
            raise self.error
        return super().forward(x)


ERRORS = [
    RuntimeError("ConvTranspose 3D with BF16 or FP16 types is not supported on MPS"),
    NotImplementedError("The operator 'aten::slow_conv3d_forward' is not currently implemented for the MPS device."),
    TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."),
    RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with ..."),
    RuntimeError("could not create a primitive"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_any_device_error_steps_down_with_a_note(error):
    image = torch.rand(1, 24, 8, 8) + 1
    prediction, notes = predict(Device(error, lambda x: len(x) == 1), image)
    assert torch.allclose(prediction.logits, image, atol=1e-5) and prediction.plan.batch == 1
    (note,) = notes
    assert "went on with cpu (float32), 1 window(s) at once" in note
    assert ("Memory ran out" if "primitive" in str(error) else str(error).splitlines()[0].rstrip(".")) in note


def test_failing_half_precision_falls_back_to_single_precision():
    network = Device(ERRORS[0], lambda x: x.dtype == torch.float32)
    image = torch.rand(1, 24, 8, 8) + 1
    prediction, (note,) = predict(network, image, plan=Plan(torch.device("cpu"), torch.float16, 2))
    assert torch.allclose(prediction.logits, image, atol=1e-5) and prediction.plan.where == "cpu (float32)"
    assert "not supported on MPS (cpu (float16), 2 window(s) at once)" in note


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_vanished_device_falls_back_to_the_cpu(kind):
    device = torch.device(kind)
    available = torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()
    if available:
        pytest.skip("it is there")
    image = torch.rand(1, 8, 8, 8) + 1
    prediction, notes = predict(Identity(), image, plan=Plan(device, torch.float16, 1))
    assert prediction.plan.where == "cpu (float32)" and notes[-1].endswith("1 window(s) at once, sums in main memory.")
    assert torch.allclose(prediction.logits, image, atol=1e-5)


def test_gpu_memory_of_a_failed_attempt_is_freed_before_the_next(monkeypatch):
    events = []

    def fail():
        raise torch.OutOfMemoryError

    monkeypatch.setattr(sliding_window, "_predict", lambda *arguments: events.append(str(arguments[5])) or fail())
    monkeypatch.setattr(sliding_window.torch.cuda, "empty_cache", lambda: events.append("given back"))
    monkeypatch.setattr(sliding_window, "_next_plan", lambda failed, _: CPU if failed.device.type == "cuda" else None)
    with pytest.raises(ResourceError):
        predict(Identity(), torch.ones(1, 8, 8, 8), plan=Plan(torch.device("cuda"), torch.float32, 1))
    assert events == ["cuda (float32), 1 window(s) at once", "given back", str(CPU)]


def test_error_that_persists_on_the_cpu_is_one_sentence_with_its_reason():
    with pytest.raises(ResourceError, match=r"even one window .*: The device failed: shape mismatch \(cpu") as caught:
        predict(Device(RuntimeError("shape mismatch"), lambda x: False), torch.ones(1, 8, 8, 8))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_error_in_a_callback_is_not_taken_for_a_device_error():
    def gone(share):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        predict(Identity(), torch.ones(1, 8, 8, 8), progress=gone)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_output_is_refused(value):
    class Overflow(Identity):
        def forward(self, x):
            out = super().forward(x).clone()
            out[0, 0, 1, 2, 3] = value
            return out

    with pytest.raises(ModelError, match="not finite"):
        predict(Overflow(), torch.ones(1, 16, 8, 8))


def test_half_precision_overflow_is_recomputed_in_single_precision():
    image = torch.full((1, 8, 8, 8), 1e5)  # float16 ends at 65504
    prediction, (note,) = predict(Identity(), image, plan=Plan(torch.device("cpu"), torch.float16, 1))
    assert torch.allclose(prediction.logits, image) and "grew beyond half precision" in note


def test_huge_finite_output_is_accepted():
    image = torch.full((1, 8, 8, 8), 3e38)
    assert torch.isfinite(predict(Identity(), image)[0].logits).all()


def test_half_precision_leaves_the_network_weights_unchanged():
    network = Identity()
    nn.init.constant_(network.convolution.weight, 1.00001)
    predict(network, torch.ones(1, 8, 8, 8), plan=Plan(torch.device("cpu"), torch.bfloat16, 1))
    assert network.convolution.weight.item() == pytest.approx(1.00001, abs=1e-7)


def test_mps_uses_single_precision_and_a_broken_driver_is_tolerated():
    assert fastest_dtype(torch.device("mps")) == torch.float32
    if not torch.cuda.is_available():
        assert fastest_dtype(torch.device("cuda")) == torch.float32
