"""What the bench compares against is itself right: the direct form matches the golden runs."""

from pathlib import Path

import pytest

from bench.golden import GOLDEN, largest_error


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.safetensors")), ids=lambda path: path.stem)
def test_the_direct_form_matches_the_golden_runs(path: Path) -> None:
    assert largest_error(path) < 1e-4
