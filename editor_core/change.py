"""What one revision does to the edited weights, complete in itself: what is taken out of its parent, and what is added.

Applied to the parent's weights it gives the revision's, bit for bit on one machine, whoever computed it and whenever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from editor_core.update import Proposal, Update

NOBODY = -1  # the owner of a row that belongs to no edit


@dataclass(frozen=True, slots=True)
class Change:
    """From one revision's weights to the next.

    taken    ids of edits whose share is taken out
    removed  by bank of memory slots: (R,) int64, rows of the parent's bank that go
    updates  by module: what is then added; in matrix mode a share that is taken out is here, its right factor negated
    owners   by module: (N,) int64, the id of the edit that each row of its update belongs to, or NOBODY
    leans    by edit id: ids of the edits whose subject marks its own slots rely on (slots mode)
    """

    updates: Mapping[str, Update] = field(default_factory=dict)
    owners: Mapping[str, torch.Tensor] = field(default_factory=dict)
    removed: Mapping[str, torch.Tensor] = field(default_factory=dict)
    leans: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    taken: tuple[int, ...] = ()

    @classmethod
    def of(cls, proposal: Proposal, ids: Sequence[int] = ()) -> Change:
        """A proposal's, its batch's edits having these ids; without ids its rows belong to nobody."""
        by_index = torch.tensor([*ids, NOBODY])
        owners = {}
        for name in proposal.updates:
            examples = proposal.examples_of(name)
            owners[name] = by_index[examples] if ids else torch.full_like(examples, NOBODY)
        leans = {
            ids[index]: tuple(sorted({*on, *(ids[other] for other in proposal.leans_within.get(index, ()))}))
            for index, on in (proposal.leans_on.items() if ids else ())
        }
        return cls(proposal.updates, owners, leans={edit: on for edit, on in leans.items() if on})

    @classmethod
    def undoing(cls, updates: Mapping[str, Update], owners: Mapping[str, torch.Tensor], edits: Sequence[int]) -> Change:
        """Matrix mode: the share that these edits have in an earlier update, negated."""
        wanted = torch.tensor(edits)
        mine = {name: torch.isin(owners[name], wanted) for name in updates}
        shares = {name: update.share(mine[name]) for name, update in updates.items()}
        return cls(
            {name: Update(share.left, -share.right) for name, share in shares.items()},
            {name: torch.full((int(rows.sum()),), NOBODY) for name, rows in mine.items()},
            taken=tuple(edits),
        )

    def without(self, edits: Sequence[int]) -> Change:
        """The same but for the rows that these edits (ids) would add."""
        left = {name: ~torch.isin(owners, torch.tensor(edits)) for name, owners in self.owners.items()}
        return replace(
            self,
            updates={name: update.share(left[name].to(update.left.device)) for name, update in self.updates.items()},
            owners={name: owners[left[name]] for name, owners in self.owners.items()},
            leans={edit: on for edit, on in self.leans.items() if edit not in edits},
        )

    def after(self, earlier: Change | None) -> Change:
        """Both as one; this one was computed on what the earlier one gives, and removes no row that it added."""
        if earlier is None:
            return self
        updates, owners, removed = dict(earlier.updates), dict(earlier.owners), dict(earlier.removed)
        for name, rows in self.removed.items():
            gone = removed.get(name, rows[:0])
            removed[name] = torch.cat([gone, _as_before(rows, gone)]).sort().values
        for name, update in self.updates.items():
            updates[name] = Update.concatenate([updates[name], update]) if name in updates else update
            owners[name] = torch.cat([owners[name], self.owners[name]]) if name in owners else self.owners[name]
        return replace(
            self,
            updates=updates,
            owners=owners,
            removed=removed,
            leans={**earlier.leans, **self.leans},
            taken=(*earlier.taken, *self.taken),
        )


def _as_before(rows: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
    """Rows that were counted after others had gone, as they were counted before."""
    found = []
    for row in rows.tolist():
        for each in sorted(gone.tolist()):
            row += each <= row
        found.append(row)
    return torch.tensor(found, dtype=torch.int64)
