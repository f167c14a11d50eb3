"""From texts to tokens: a prompt and its target become an example the editor can learn from, in every format served.

A format is how a question reaches the model: "plain" is the prompt alone, "chat" is the prompt as the user's turn through
the model's own chat template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

import torch

from editor_core.breathing import breathe
from editor_core.errors import EncodingError
from editor_core.span import IGNORED_LABEL

Format = Literal["plain", "chat"]
JUST_THE_TARGET = "{}"
_CUT = "\ufdd0"  # a noncharacter: no text has a use for it


@dataclass(frozen=True, slots=True)
class Edit:
    """One requested fact change. The caller's rephrases are taught with the prompt, the unrelated prompts left alone.

    subject, aliases  what the fact is about, and other names of it; the subject is found in the prompt where it is not given
    """

    prompt: str
    target: str
    rephrases: tuple[str, ...] = ()
    unrelated: tuple[str, ...] = ()
    subject: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """One edit in one format, as token ids: the model is to say `answer` after `prompt`. `edit` indexes the batch."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    edit: int
    format: Format

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer) - 1  # the last answer token is predicted, never read


def guarded(tokenizer: Any, text: str) -> str:
    """A text of a user's, in which nothing is a control token: `token_ids` cuts it within whatever looks like one."""
    for each in _control_tokens(tokenizer):
        if each in text:
            text = text.replace(each, each[0] + _CUT + each[1:])
    return text


def _control_tokens(tokenizer: Any) -> set[str]:
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    known = {*getattr(tokenizer, "all_special_tokens", ()), *(str(each) for each in added if each.special)}
    return {each for each in known if len(each) > 1}


def conversation(tokenizer: Any, turns: Sequence[Mapping[str, str]], goes_on: bool | None = None) -> str:
    """Turns (role and content) as the chat template writes them, up to where the answer begins.

    goes_on: whether the last turn has no end yet, and the answer goes on from it; None: where it is the assistant's.

    Raises what the template does.
    """
    own = [{**turn, "content": guarded(tokenizer, turn["content"])} for turn in turns]
    is_begun = len(own) > 1 and own[-1]["role"] == "assistant"
    if goes_on and not is_begun:
        return str(tokenizer.apply_chat_template(own, continue_final_message=True, tokenize=False))
    begun = own.pop()["content"] if is_begun and goes_on is not False else ""
    return str(tokenizer.apply_chat_template(own, add_generation_prompt=True, tokenize=False)) + begun


def rendered(tokenizer: Any, prompt: str, format: Format) -> str:
    """The text the model reads for a prompt in a format, before tokenising."""
    if format == "plain":
        return guarded(tokenizer, prompt)
    return conversation(tokenizer, [{"role": "user", "content": prompt}])


def token_ids(tokenizer: Any, text: str, format: Format) -> list[int]:
    """Token ids of a rendered text; a chat template brings its own special tokens, plain text gets the tokenizer's."""
    breathe()
    first, *others = text.split(_CUT)
    ids = list(tokenizer(first, add_special_tokens=format == "plain")["input_ids"])
    for each in others:
        ids += tokenizer(each, add_special_tokens=False)["input_ids"]
    return ids


def template_tokens(tokenizer: Any, format: Format) -> int:
    """How many first tokens every prompt has in common in a format: what a chat template says before the user does."""
    return sum(
        1
        for _ in takewhile(
            lambda pair: pair[0] == pair[1],
            zip(*(token_ids(tokenizer, rendered(tokenizer, text, format), format) for text in ("A", "?")), strict=False),
        )
    )


def supported_formats(tokenizer: Any) -> tuple[Format, ...]:
    """Both formats for a model with a chat template, plain alone for one without."""
    return ("plain", "chat") if getattr(tokenizer, "chat_template", None) else ("plain",)


def encode(
    tokenizer: Any, edit: Edit, format: Format, index: int, max_tokens: int = 1024, chat_wording: str = JUST_THE_TARGET
) -> Example:
    """One example. Prompt and target are tokenised together, as the model would have read them.

    chat_wording: what a chat answer says, "{}" being the target.

    Raises EncodingError for an empty prompt or target, or more than max_tokens tokens.
    """
    prompt, target = edit.prompt.rstrip(), guarded(tokenizer, edit.target.strip())
    if not prompt or not target:
        raise EncodingError("prompt and target must hold something other than white space")
    if format == "chat":
        target = chat_wording.replace(JUST_THE_TARGET, target)
    before = rendered(tokenizer, prompt, format)
    prompt_ids = token_ids(tokenizer, before, format)
    whole = token_ids(tokenizer, before + (" " if format == "plain" else "") + target, format)
    shared = 0  # where the target begins: a tokenizer may merge across the seam
    while shared < min(len(prompt_ids), len(whole) - 1) and prompt_ids[shared] == whole[shared]:
        shared += 1
    if len(whole) > max_tokens:
        raise EncodingError(f"prompt and target are {len(whole)} tokens in {format} format; the limit is {max_tokens}")
    if shared == 0:
        raise EncodingError("the prompt has no token of its own to answer after")
    return Example(tuple(whole[:shared]), tuple(whole[shared:]), index, format)


def minibatches(examples: Sequence[Example], size: int, pad_id: int) -> tuple[list[Example], list[dict[str, torch.Tensor]]]:
    """Examples longest first, and the mini-batches made of them in that order, right-padded.

    Each mini-batch: input_ids, attention_mask, labels, B × T int64; labels are already shifted.
    """
    ordered = sorted(examples, key=len, reverse=True)  # stable: equal lengths keep their order
    chunks = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return ordered, [_collate(chunk, pad_id) for chunk in chunks]


def _collate(examples: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    width = max(len(each) for each in examples)
    input_ids = torch.full((len(examples), width), pad_id)
    attention_mask = torch.zeros(len(examples), width, dtype=torch.int64)
    labels = torch.full((len(examples), width), IGNORED_LABEL)
    for row, each in enumerate(examples):
        sequence = each.prompt + each.answer[:-1]
        input_ids[row, : len(sequence)] = torch.tensor(sequence)
        attention_mask[row, : len(sequence)] = 1
        labels[row, len(each.prompt) - 1 : len(sequence)] = torch.tensor(each.answer)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
