"""What one revision does to the edited weights, complete in itself: what is taken out of its parent, and what is added.

Applied to the parent's weights it gives the revision's, bit for bit on one machine, whoever computed it and whenever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from editor_core.update import Proposal, Update

NOBODY = -1  # the owner of a row that belongs to no edit


@dataclass(frozen=True, slots=True)
class Change:
    """From one revision's weights to the next.

    updates  by module: what is added; a share that is taken out is here too, its right factor negated
    owners   by module: (N,) int64, the id of the edit that each row of its update belongs to, or NOBODY
    taken    ids of edits whose share is taken out
    """

    updates: Mapping[str, Update] = field(default_factory=dict)
    owners: Mapping[str, torch.Tensor] = field(default_factory=dict)
    taken: tuple[int, ...] = ()

    @classmethod
    def of(cls, proposal: Proposal, ids: Sequence[int] = ()) -> Change:
        """A proposal's, its batch's edits having these ids; without ids its rows belong to nobody."""
        examples = proposal.examples
        owners = torch.tensor(ids)[examples] if ids else torch.full_like(examples, NOBODY)
        return cls(proposal.updates, {name: owners.clone() for name in proposal.updates})  # no file holds shared memory

    @classmethod
    def undoing(cls, updates: Mapping[str, Update], owners: Mapping[str, torch.Tensor], edits: Sequence[int]) -> Change:
        """The share that these edits have in an earlier update, negated."""
        wanted = torch.tensor(edits)
        mine = {name: torch.isin(owners[name], wanted) for name in updates}
        shares = {name: update.share(mine[name]) for name, update in updates.items()}
        return cls(
            {name: Update(share.left, -share.right) for name, share in shares.items()},
            {name: torch.full((int(rows.sum()),), NOBODY) for name, rows in mine.items()},
            taken=tuple(edits),
        )

    def after(self, earlier: Change | None) -> Change:
        """Both as one; this one was computed on what the earlier one gives."""
        if earlier is None:
            return self
        updates, owners = dict(earlier.updates), dict(earlier.owners)
        for name, update in self.updates.items():
            updates[name] = Update.concatenate([updates[name], update]) if name in updates else update
            owners[name] = torch.cat([owners[name], self.owners[name]]) if name in owners else self.owners[name]
        return Change(updates, owners, (*earlier.taken, *self.taken))
