"""How far two forms' deltas are apart: two safetensors files in, the largest relative difference of any tensor out."""

from __future__ import annotations

import json
import sys

from safetensors.torch import load_file


def largest_difference(found: str, expected: str) -> float:
    """max over the tensors of ||found - expected|| / ||expected||; infinite when the names differ."""
    ours, theirs = load_file(found), load_file(expected)
    if set(ours) != set(theirs):
        return float("inf")
    return max(float((ours[name] - each).norm() / each.norm()) for name, each in theirs.items())


if __name__ == "__main__":
    print(json.dumps({"largest": largest_difference(*sys.argv[1:3])}))
