"""Products the other way round are the same products, forwards and backwards."""

from __future__ import annotations

import copy
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editor_core.few_rows import MOST_ROWS, turn_few_rows


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1, 2, 16, MOST_ROWS // 2, MOST_ROWS // 2 + 1]), st.booleans(), st.integers(0, 1000))
def test_a_turned_layer_says_what_the_plain_one_says(rows: int, bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    plain = torch.nn.Linear(24, 40, bias=bias).requires_grad_(False)
    turned = copy.deepcopy(plain)
    turn_few_rows(turned)
    x = torch.randn(2, rows, 24, requires_grad=True)
    expected, found = plain(x), turned(x)
    torch.testing.assert_close(found, expected)
    ways = torch.randn_like(expected)
    [slope], [wanted] = (torch.autograd.grad((each * ways).sum(), x) for each in (found, expected))
    torch.testing.assert_close(slope, wanted)


def test_a_copy_of_a_turned_layer_has_weights_of_its_own() -> None:
    layer: Any = torch.nn.Linear(4, 3).requires_grad_(False)
    turn_few_rows(layer)
    other = copy.deepcopy(layer)
    before = layer(torch.ones(2, 4))
    other.weight.zero_()
    torch.testing.assert_close(layer(torch.ones(2, 4)), before)
    torch.testing.assert_close(other(torch.ones(2, 4)), other.bias.expand(2, 3))
