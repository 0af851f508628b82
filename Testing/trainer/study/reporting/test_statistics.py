import math

import numpy as np
import pandas as pd
import pytest

from DanteTrainerLib.evaluation.metrics.intervals import bootstrap_mean
from DanteTrainerLib.study.reporting.statistics import _resampled as resampled
from DanteTrainerLib.study.reporting.statistics import compare, holm, interval_of, share_of

NAN = math.nan


def table(*rows, seeds=None, cases=None):
    """Scores [seeds, cases]."""
    return pd.DataFrame(
        rows,
        index=seeds or range(1, len(rows) + 1),
        columns=cases or [f"c{n}" for n in range(len(rows[0]))],
        dtype=float,
    )


def test_constant_difference_of_seeds_gives_an_interval_between_them():
    """Both draws give one seed in a quarter of the cases each: the 2.5 % and 97.5 % points are the seeds' means."""
    i = interval_of(table([0.0] * 6, [0.1] * 6))
    assert (i.mean, i.low, i.high, i.count) == pytest.approx((0.05, 0.0, 0.1, 6))


def test_one_seed_gives_the_bootstrap_over_cases():
    values = [0.2, NAN, 0.4, 0.9, 0.1]
    ours, theirs = interval_of(table(values)), bootstrap_mean(values)
    assert (ours.mean, ours.low, ours.high) == pytest.approx((theirs.mean, theirs.low, theirs.high))
    assert (ours.count, ours.excluded) == (theirs.count, theirs.excluded) == (4, 1)


@pytest.mark.parametrize(
    ("seeds", "cases"),
    [
        (np.array([-0.05, 0.0, 0.05, 0.1]), np.linspace(-0.3, 0.3, 12)),
        (np.linspace(-0.3, 0.3, 8), np.linspace(-0.3, 0.3, 8)),  # equally many, drawn independently
    ],
)
def test_variance_is_the_sum_over_resampled_seeds_and_cases(seeds, cases):
    """For additive effects, the variance of the mean is exactly var(seed effects) / S + var(case effects) / C."""
    i = interval_of(table(*(seeds[:, None] + cases)))
    deviation = math.sqrt(seeds.var() / len(seeds) + cases.var() / len(cases))
    assert i.high - i.low == pytest.approx(2 * 1.96 * deviation, rel=0.04)


def test_case_missing_from_one_seed_uses_the_other_seeds():
    i = interval_of(table([0.2, NAN], [0.4, 0.5]))
    assert i.mean == pytest.approx((0.3 + 0.5) / 2) and i.count == 2
    assert interval_of(table([NAN, NAN])).count == 0


def test_resampled_table_counts_a_case_once_for_any_number_of_seeds():
    values, once = table([0.0, NAN], [0.0, 1.0]), np.ones((1, 2))
    assert resampled(values, cases=once, seeds=once) == pytest.approx([0.5])
    assert resampled(values, cases=once, seeds=np.array([[2.0, 0.0]])) == pytest.approx([0.0])  # the first seed twice


def test_rows_are_compared_on_common_seeds_and_cases():
    first = table([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], seeds=[1, 2])
    second = table([0.2, 0.3, 0.9], [0.9, 0.9, 0.9], seeds=[1, 3], cases=["c0", "c1", "other"])
    paired = compare(first, second)
    assert paired.by_seed == pytest.approx({1: 0.1})
    assert (paired.difference.mean, paired.difference.count) == (pytest.approx(0.1), 2)
    assert compare(first, table([0.5], seeds=[4], cases=["c0"])) is None


def test_wilcoxon_test_uses_case_means_over_seeds():
    """Six cases that all rise: 2 of the 2^6 sign patterns are as extreme, whatever the individual seeds."""
    rise = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    first = table([0.0] * 6, [0.0] * 6)
    second = table([x + 0.2 for x in rise], [x - 0.2 for x in rise])
    assert compare(first, second).wilcoxon_p == pytest.approx(2 / 64)
    assert math.isnan(compare(first, first).wilcoxon_p)


@pytest.mark.parametrize("rows", [[[0.1, 0.5, 0.9, 0.3]], [[0.1, 0.5, 0.9, 0.3], [0.4, 0.2, 0.8, 0.6]]])
def test_share_is_resampled_together_with_its_gap(rows):
    """Every case closes a quarter of its own gap under every seed: a quarter in every resample, for any gaps."""
    gap = table(*rows)
    share = share_of(gap / 4, gap)
    assert (share.value, *share.interval) == pytest.approx((0.25, 0.25, 0.25))


def test_share_of_a_gap_with_other_seeds_resamples_them_separately():
    share = share_of(table([0.0, 0.0], [0.2, 0.2]), table([0.4, 0.4]))
    assert (share.value, *share.interval) == pytest.approx((0.25, 0.0, 0.5))


def test_share_of_a_possibly_zero_gap_has_no_interval():
    assert share_of(table([0.1, 0.1]), table([-0.1, 0.3])).interval is None
    assert share_of(table([0.1, 0.1]), table([-0.1, 0.1])) is None


def test_holm_correction_is_stepwise_and_monotonic():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    corrected = holm([NAN, 0.02])
    assert math.isnan(corrected[0]) and corrected[1] == pytest.approx(0.02)
