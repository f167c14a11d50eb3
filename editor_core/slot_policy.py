"""How facts are written into memory slots. Sizes are relative to the model's own, so one set of numbers serves many models."""

from __future__ import annotations

from dataclasses import dataclass

from editor_core.errors import ConfigError
from editor_core.texts import JUST_THE_TARGET, Format

SUBJECT_STEP = 0.6  # of the block's median output norm


@dataclass(frozen=True, slots=True)
class SlotPolicy:
    """Settings of slot editing.

    formats            in which formats a fact is edited and checked
    subject_blocks     feed-forward blocks (module names) that hold slots at the subject's token
    answer_blocks      blocks that hold slots at the positions which say the answer
    subject_passes     steps of the subject's values: they need not say the answer, only make its question unmistakable later
    contexts           templates around a plain prompt ("{}") in which its answer is taught as well, with the same slots: what
                       they have in common with the prompt alone is the subject's mark, and little of the wording
    answer_passes      at most this many steps of the answer's values, over the examples that do not yet hold
    rounds             how often what generation finds wanting is taught again
    subject_step       norm of a step of a subject's value, as a share of the block's median output norm
    answer_step        largest norm of a step of an answer's value, likewise
    momentum           of the subject's steps
    confidence         every token of an answer is to have this probability at least
    lowest_first_threshold     a subject slot in the first block opens at no score below this (1 is its own key); it decides
    lowest_subject_threshold   the same in the blocks after it, which read its mark
    lowest_threshold   the same for the position that says an answer's first token
    lowest_later_threshold   the same for an answer's later tokens: what was said before them makes their inputs alike however
                       the question was put, and unlike a number or a name elsewhere
    threshold_margin   and this much above the highest score of the background
    chat_wording       what a chat answer says, "{}" being the target
    requires_holding   leave edits that do not hold out of the proposal
    max_tokens         longest prompt + target accepted, in tokens
    """

    formats: tuple[Format, ...]
    subject_blocks: tuple[str, ...]
    answer_blocks: tuple[str, ...]
    subject_passes: int = 3
    answer_passes: int = 16
    rounds: int = 2
    subject_step: float = SUBJECT_STEP
    answer_step: float = 2.0
    momentum: float = 0.5
    confidence: float = 0.98
    lowest_first_threshold: float = 0.7
    lowest_subject_threshold: float = 0.6
    lowest_threshold: float = 0.4
    lowest_later_threshold: float = 0.6
    threshold_margin: float = 0.1
    contexts: tuple[str, ...] = ("Question: {}\nAnswer:",)
    chat_wording: str = JUST_THE_TARGET
    requires_holding: bool = True
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        if not self.subject_blocks or not self.answer_blocks:
            raise ConfigError("slots need at least one subject block and one answer block")
        if set(self.subject_blocks) & set(self.answer_blocks):
            raise ConfigError("a block cannot hold both subject slots and answer slots: the model has too few of them")

    @property
    def blocks(self) -> tuple[str, ...]:
        return self.subject_blocks + self.answer_blocks
