"""Lifelong statistics: the same after any way of batching, and across a restart bit for bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editor_core.errors import NonFiniteUpdateError, StatisticsMismatchError
from editor_core.statistics import ShapeStatistics, Statistics

SHAPE = (5, 3)


def rows(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 5, generator=generator) + 2, torch.randn(count, 3, generator=generator) * 0.1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 2**31))
@settings(deadline=None)
def test_batches_merge_to_what_all_rows_at_once_would_give(sizes: list[int], seed: int) -> None:
    keys, values = rows(sum(sizes), seed)
    split, whole = (ShapeStatistics(SHAPE, whitens=True) for _ in range(2))
    for h, v in zip(keys.split(sizes), values.split(sizes), strict=True):
        split.observe([(h, v)])
    whole.observe([(keys, values)])
    joined = torch.cat([keys, values], 1).double()
    assert split.n == whole.n == sum(sizes)
    torch.testing.assert_close(split.mean, joined.mean(0))
    torch.testing.assert_close(split.second_moment, (joined - joined.mean(0)).square().sum(0))
    deviations = values - values.mean(0)
    torch.testing.assert_close(split.co_moment, deviations.T @ deviations, rtol=1e-4, atol=1e-5)


def test_ultraedit_uses_each_groups_unbiased_variance() -> None:
    keys, values = rows(4, 0)
    biased, unbiased = ShapeStatistics(SHAPE, whitens=True), ShapeStatistics(SHAPE, whitens=False)
    for each in (biased, unbiased):
        each.observe([(keys, values)])
    torch.testing.assert_close(unbiased.second_moment, biased.second_moment * 4 / 3)


def test_one_row_alone_is_no_division_by_zero() -> None:
    statistics = ShapeStatistics(SHAPE, whitens=False)
    statistics.observe([rows(1, 0)])
    assert all(torch.isfinite(moment).all() for moment in statistics.key_moments())


def test_state_survives_a_round_trip_bit_for_bit() -> None:
    before = Statistics([SHAPE, (3, 3)], whitens=True)
    before[SHAPE].observe([rows(7, 1)])
    after = Statistics([SHAPE, (3, 3)], whitens=True)
    after.load_state_dict(before.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(before.state_dict().values(), after.state_dict().values(), strict=True))


@pytest.mark.parametrize("other", [[(5, 4)], [SHAPE, (3, 3)], [(3, 5)]])
def test_statistics_of_other_shapes_are_refused_and_change_nothing(other: list[tuple[int, int]]) -> None:
    mine = Statistics([SHAPE], whitens=True)
    mine[SHAPE].observe([rows(7, 1)])
    known = mine.state_dict()
    with pytest.raises(StatisticsMismatchError):
        mine.load_state_dict(Statistics(other, whitens=True).state_dict())
    assert all(torch.equal(known[name], tensor) for name, tensor in mine.state_dict().items())


def test_statistics_of_the_other_algorithm_are_refused() -> None:
    with pytest.raises(StatisticsMismatchError):
        Statistics([SHAPE], whitens=True).load_state_dict(Statistics([SHAPE], whitens=False).state_dict())


def test_a_row_that_is_not_finite_is_refused_and_changes_nothing() -> None:
    statistics = ShapeStatistics(SHAPE, whitens=True)
    keys, values = rows(3, 0)
    values[1, 1] = float("nan")
    with pytest.raises(NonFiniteUpdateError):
        statistics.observe([(keys, values)])
    assert statistics.n == 0
    assert not statistics.mean.any()
