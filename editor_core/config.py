"""What an editing step needs to know, frozen and checked once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from editor_core.errors import ConfigError

Algorithm = Literal["stableedit", "ultraedit"]
Phase = Literal["edit", "warmup"]

# Ridge each method's authors use: alpha = 10 (StableEdit), alpha = 1 (ULTRAEDIT).
PUBLISHED_RIDGE: dict[str, float] = {"stableedit": 10.0, "ultraedit": 1.0}


@dataclass(frozen=True, slots=True)
class EditorConfig:
    """Settings of one editor.

    modules          dotted names of the linear layers to edit, as in `model.named_modules()`
    lr               step size: target rows are V = -lr * ||h^||^2 * v^
    algorithm        "stableedit" (full whitening of v, biased variance) or "ultraedit" (per dimension, unbiased)
    ridge            alpha of (H^T H + alpha I); None takes the algorithm's published value
    max_update_norm  refuse an update of one module whose Frobenius norm exceeds this; None sets no bound

    Raises ConfigError when a value is out of range.
    """

    modules: Sequence[str]
    lr: float
    algorithm: Algorithm = "stableedit"
    ridge: float | None = None
    max_update_norm: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.modules, str):
            raise ConfigError("modules is a list of names, not one string")
        object.__setattr__(self, "modules", tuple(self.modules))
        if self.algorithm not in get_args(Algorithm):
            raise ConfigError(f"algorithm is one of {', '.join(get_args(Algorithm))}, not {self.algorithm!r}")
        if self.ridge is None:
            object.__setattr__(self, "ridge", PUBLISHED_RIDGE[self.algorithm])
        if not self.modules:
            raise ConfigError("modules is empty: name at least one linear layer")
        if not all(isinstance(name, str) and name for name in self.modules):
            raise ConfigError("modules holds something that is not a module's name")
        if len(set(self.modules)) != len(self.modules):
            raise ConfigError("modules names a layer twice")
        for name in ("lr", "ridge", "max_update_norm"):
            value = getattr(self, name)
            if value is None and name == "max_update_norm":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
                raise ConfigError(f"{name} must be a finite number above 0, not {value!r}")

    @property
    def alpha(self) -> float:
        """The ridge as a plain float (never None after validation)."""
        assert self.ridge is not None
        return float(self.ridge)

    @property
    def whitens(self) -> bool:
        """Whether value gradients are decorrelated (full covariance) rather than scaled per dimension."""
        return self.algorithm == "stableedit"
