import numpy as np
import pytest

from DanteSegmenterLib.model_folder import Normalisation, Preprocessing
from DanteSegmenterLib.preprocess import Background, background_of, normalise, prepare
from DanteSegmenterLib.volume import Volume

MR = Normalisation("zscore_nonzero")
NCT = Normalisation("ct_window", low=-160, high=240, mean=40, std=60)
CTPA = Normalisation("ct_window", low=-160, high=560, mean=200, std=150)
# Bounds, mean and standard deviation that float32 has to round.
UNEVEN = Normalisation("ct_window", low=-123.456, high=234.567, mean=12.3456, std=0.1)


def test_mr_background_stays_zero_and_the_rest_has_mean_0_and_deviation_1():
    raw = np.array([[[0, 2], [4, 0]], [[6, 8], [0, 0]]], np.float32)  # 2, 4, 6, 8: mean 5, deviation sqrt(5)
    result = normalise(raw, MR)
    assert (result == 0).tolist() == (raw == 0).tolist()
    assert result[raw > 0] == pytest.approx(np.array([-3, -1, 1, 3]) / np.sqrt(5))


def test_hounsfield_units_are_clipped_and_scaled_by_training_statistics():
    window = Normalisation("ct_window", low=-100, high=300, mean=50, std=100)
    raw = np.array([[[-1000, -100, 0, 150, 3000]]], np.float32)
    assert normalise(raw, window).tolist() == [[[-1.5, -1.5, -0.5, 1, 2.5]]]


@pytest.mark.parametrize("window", [NCT, CTPA, UNEVEN], ids=["NCT", "CTPA", "uneven"])
def test_ct_scaling_is_monotonic_and_strictly_so_inside_the_window(window):
    hu = np.arange(-2000, 3000, 1 / 16, dtype=np.float32)
    steps = np.diff(normalise(hu, window))
    inside = (hu[:-1] >= window.low) & (hu[1:] <= window.high)
    assert (steps >= 0).all() and (steps[inside] > 0).all()
    assert not steps[(hu[1:] <= window.low) | (hu[:-1] >= window.high)].any()


@pytest.mark.parametrize("window", [NCT, CTPA, UNEVEN], ids=["NCT", "CTPA", "uneven"])
def test_ct_background_is_exactly_the_lower_window_end(window):
    (value,) = background_of(Preprocessing("LPS", (1, 1, 1), {"ct": window}), ["ct"]).values
    assert value == pytest.approx((window.low - window.mean) / window.std, rel=1e-6)
    assert (normalise(np.float32([-3024, -1000, window.low]), window) == np.float32(value)).all()


def test_background_is_returned_in_the_order_of_the_channels():
    preprocessing = Preprocessing("LPS", (1, 1, 1), {"nct": NCT, "ctpa": CTPA, "t1": MR})
    background = background_of(preprocessing, ["ctpa", "t1", "nct"])
    assert background.values == pytest.approx((-2.4, 0, -10 / 3)) and background.outside == (False, True, False)


def test_foreground_is_where_any_channel_is_not_background():
    tensor = np.float32([[-2, 0, -2, 5], [0, 0, 1, 0]]).reshape(2, 4, 1, 1)
    assert Background((-2, 0), (False, True)).foreground(tensor).ravel().tolist() == [False, True, True, True]


def test_ct_blood_is_kept_and_air_becomes_background():
    hu = np.full((4, 4, 4), 40, np.int16)  # the window's mean
    hu[0, 0] = -1000, 39, 40, 41
    volume = Volume(hu, np.diag([-4.0, -4.0, 4.0, 1.0]))
    prepared = prepare({"ct": volume}, ["ct"], Preprocessing("LPS", (4, 4, 4), {"ct": NCT}))
    assert prepared.tensor[0, 0, 0] == pytest.approx([-10 / 3, -1 / 60, 0, 1 / 60])
    air = ~prepared.background.foreground(prepared.tensor)
    assert air.sum() == 1 and air[0, 0, 0]
