"""The N × N solve against the dense formula it stands for."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editor_core.solve import solve_keys, target_rows

shapes = st.tuples(st.integers(1, 12), st.integers(1, 20), st.integers(1, 9), st.floats(0.1, 100.0), st.integers(0, 2**31))


@given(shapes)
@settings(deadline=None, max_examples=100)
def test_factors_give_the_dense_ridge_solution(case: tuple[int, int, int, float, int]) -> None:
    rows, d_in, d_out, ridge, seed = case
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(rows, d_in, generator=generator), torch.randn(rows, d_out, generator=generator)
    exact = keys.double()
    dense = torch.linalg.solve(exact.T @ exact + ridge * torch.eye(d_in, dtype=torch.float64), exact.T @ values.double())
    found = solve_keys(keys, ridge).T @ values
    torch.testing.assert_close(found.double(), dense, rtol=1e-4, atol=1e-5)


def test_nearly_parallel_keys_are_solved_accurately() -> None:
    keys = torch.ones(6, 40) * 30 + torch.randn(6, 40, generator=torch.Generator().manual_seed(0)) * 1e-3
    values = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    exact = keys.double()
    dense = exact.T @ torch.linalg.solve(exact @ exact.T + torch.eye(6, dtype=torch.float64), values.double())
    found = solve_keys(keys, 1.0).T @ values
    assert (found - dense).norm() < 1e-3 * dense.norm()


def test_target_rows_step_against_the_gradient_by_the_keys_squared_norm() -> None:
    rows = target_rows(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, -2.0]]), lr=0.1)
    torch.testing.assert_close(rows, torch.tensor([[-2.5, 5.0]]))
