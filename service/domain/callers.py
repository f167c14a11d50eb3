"""Who asked for a change: what the ledger writes beside it, and what goes into its hashes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Caller:
    """key_id: of the API key that let the request in; actor: what the caller says of itself. Empty where there is none."""

    key_id: str = ""
    actor: str = ""

    def content(self) -> dict[str, object]:
        """As hashes see it: nothing of nobody, so that hashes of before callers were recorded stay as they are."""
        return {"asked_by": asdict(self)} if self.key_id or self.actor else {}


NOBODY = Caller()


def distinct(callers: Iterable[Caller]) -> tuple[Caller, ...]:
    """Each once, in order, without nobody."""
    return tuple(sorted({each for each in callers if each != NOBODY}))


def callers_of(values: Iterable[dict[str, Any]]) -> tuple[Caller, ...]:
    """Back from JSON."""
    return tuple(Caller(**each) for each in values)
