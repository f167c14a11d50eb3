"""An update's factors: norms without the dense matrix, and each edit's own share."""

import torch

from editor_core.statistics import Statistics
from editor_core.update import Proposal, Update


def update(rows: int, seed: int) -> Update:
    generator = torch.Generator().manual_seed(seed)
    return Update(torch.randn(rows, 6, generator=generator), torch.randn(rows, 4, generator=generator))


def test_norm_and_inner_product_need_no_dense_matrix() -> None:
    one, two = update(5, 0), update(3, 1)
    assert abs(one.norm() - one.dense().norm().item()) < 1e-4
    assert abs(one.inner(two) - (one.dense() * two.dense()).sum().item()) < 1e-4


def test_the_norm_of_an_update_with_nan_is_nan() -> None:
    broken = update(2, 0)
    broken.left[0, 0] = float("nan")
    assert broken.norm() != broken.norm()
    assert not broken.is_finite()


def test_shares_of_all_edits_sum_to_the_whole() -> None:
    whole = update(6, 2)
    tags = torch.tensor([0, 2, 1, 0, 2, 2])
    proposal = Proposal({"m": whole}, Statistics([], whitens=True), "edit", tags, (), 0)
    total = sum((proposal.share([edit])["m"].dense() for edit in range(3)), torch.zeros(6, 4))
    torch.testing.assert_close(total, whole.dense())


def test_concatenated_updates_are_their_sum() -> None:
    one, two = update(5, 0), update(3, 1)
    torch.testing.assert_close(Update.concatenate([one, two]).dense(), one.dense() + two.dense())
