"""The update: the ridge solution, kept as it is judged."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editor_core.scoped.gate import Gate
from editor_core.scoped.record import Address, Record
from editor_core.scoped.update import ridge
from editor_core.update import Update


@given(rows=st.integers(1, 9), width=st.integers(20, 60), seed=st.integers(0, 99), share=st.floats(0.001, 1.0))
@settings(max_examples=40)
def test_the_step_is_the_dense_ridge_solution(rows: int, width: int, seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys, target = torch.randn(rows, width, generator=generator), torch.randn(rows, 7, generator=generator)
    alpha = share * float((keys @ keys.T).diagonal().mean())
    dense = torch.linalg.solve(
        keys.double().T @ keys.double() + alpha * torch.eye(width).double(), keys.double().T @ target.double()
    )
    assert torch.allclose(keys.T @ ridge(keys, target, share), dense.float(), atol=1e-4, rtol=1e-3)


@given(seed=st.integers(0, 99), scale=st.floats(1e-6, 1e6))
@settings(max_examples=30)
def test_a_record_reads_back_as_what_was_judged(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    kept = Update(scale * torch.randn(3, 12, generator=generator), torch.randn(3, 8, generator=generator)).rounded()
    gate = Gate(("who own thi",), torch.ones(1, 4) / 2, (0.5,), ("is thi old",))
    address = Address(("Castle Orwin", "云溪县"), gate, ("is",), {"plain": (1, 2), "chat": (3,)})
    data = Record(address, {"a.down_proj": kept}).to_bytes()
    found = Record.from_bytes(data)
    assert torch.equal(found.updates["a.down_proj"].left, kept.left)
    assert torch.equal(found.updates["a.down_proj"].right, kept.right)
    assert found.address.to_bytes() == address.to_bytes()
    assert Record(found.address, found.updates).to_bytes() == data


def test_rounding_moves_no_entry_by_more_than_half_a_step() -> None:
    rows = torch.randn(5, 30)
    off = (Update(rows, rows).rounded().left - rows).abs()
    assert bool((off <= rows.abs().amax(1, keepdim=True) / 254 * 1.001).all())
