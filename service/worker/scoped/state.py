"""Everything that is at one revision of a model with scoped edits."""

from __future__ import annotations

from dataclasses import dataclass

from editor_core.scoped.in_force import EditsInForce
from editor_core.statistics import Statistics


@dataclass(frozen=True, slots=True)
class ScopedState:
    """The edits in force, and the lifelong statistics that have seen them and all before them."""

    edits: EditsInForce
    statistics: Statistics
