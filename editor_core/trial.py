"""What a profile is worth: a few facts taught with it as one batch, asked in other words, and everything else asked as well.

The batch is taught on a draft that is thrown away; the model is left without a slot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import nn

from editor_core.answers import greedy_answers, holds
from editor_core.draft import Draft
from editor_core.errors import NonFiniteUpdateError
from editor_core.profile import Profile
from editor_core.reference import Reference
from editor_core.slot_defaults import bank_editor
from editor_core.slot_editor import SlotEditor
from editor_core.slot_policy import SlotPolicy
from editor_core.texts import Edit

LEAST_HOLDING = 0.9  # of the facts, for a profile to be of use
WARMUP_BATCH = 10

PolicyOf = Callable[[Profile], SlotPolicy]


@dataclass(frozen=True, slots=True)
class Trial:
    """One profile's figures.

    holding            share of the facts that hold in every format
    rephrased          share of the rephrases, over all formats, that get the target; they were not taught
    unchanged          share of the canary prompts answered as before, mean over formats
    kl_nats            KL(unedited || edited) of the next token after them, mean over formats
    perplexity_ratio   of the canary texts, edited / unedited; None without a figure
    """

    profile: Profile
    holding: float
    rephrased: float
    unchanged: float
    kl_nats: float
    perplexity_ratio: float | None

    @property
    def holds(self) -> bool:
        return self.holding >= LEAST_HOLDING

    def rank(self) -> tuple[bool, float, float]:
        """The greater the better: profiles that make facts hold, by generalisation and locality together, then by least KL."""
        return self.holds, (self.rephrased + self.unchanged) / 2 if self.holds else self.holding, -self.kl_nats


class TrialBench:
    """Tries profiles on one model, all with the same facts."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        policy_of: PolicyOf,
        facts: Sequence[Edit],
        warmup: Sequence[Edit],
        reference: Reference,
        folder: Path,
    ) -> None:
        self._model, self._tokenizer, self._policy_of = model, tokenizer, policy_of
        self._facts, self._warmup, self._reference, self._folder = facts, warmup, reference, folder
        self._warmed: SlotEditor | None = None

    def trial(self, profile: Profile) -> Trial:
        """A profile whose steps are not numbers any more holds nothing."""
        slot_editor = self._editor_for(self._policy_of(profile))
        editor = slot_editor.editor
        try:
            proposed = slot_editor.propose([replace(fact, rephrases=()) for fact in self._facts])
        except NonFiniteUpdateError:
            return Trial(profile, 0.0, 0.0, 0.0, float("inf"), None)
        draft = Draft(editor)
        with draft:
            editor.apply(proposed.proposal)
            rephrased = self._rephrased()
            damage = self._reference.compare(self._model, self._tokenizer)
        return Trial(
            profile,
            holding=fmean(all(each.values()) for each in proposed.holds),
            rephrased=rephrased,
            unchanged=fmean(damage.unchanged.values()),
            kl_nats=fmean(damage.kl_nats.values()),
            perplexity_ratio=damage.perplexity_ratio,
        )

    def _editor_for(self, policy: SlotPolicy) -> SlotEditor:
        """Warmed up on the policy's blocks; the last one again where the blocks are the same."""
        if self._warmed is None or self._warmed.policy.blocks != policy.blocks:
            self._warmed = None  # lets go of its background before the next one is read
            slot_editor = SlotEditor(bank_editor(self._model, policy.blocks), self._tokenizer, policy, self._folder)
            for _, proposal in slot_editor.warm_up(self._warmup, WARMUP_BATCH):
                if proposal is not None:
                    slot_editor.editor.apply(proposal)
            self._warmed = slot_editor
        self._warmed.policy = policy
        return self._warmed

    def _rephrased(self) -> float:
        asked = [
            (rephrase, fact.target, format)
            for fact in self._facts
            for rephrase in fact.rephrases
            for format in self._reference.tokens
        ]
        said = greedy_answers(self._model, self._tokenizer, [(rephrase, format) for rephrase, _, format in asked])
        return fmean(holds(answer, target, format) for answer, (_, target, format) in zip(said, asked, strict=True))
