"""Facts in force in the demo model: whole answers, and nothing else changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from editor_core.generation import Batcher, Sampling
from editor_core.generation import Sequence as Answered
from editor_core.loading import LoadedModel
from editor_core.modules import resolve_modules
from editor_core.scoped.answering import Answer, Asked, answers
from editor_core.scoped.attached import attach
from editor_core.scoped.editor import Learned, ScopedEditor
from editor_core.scoped.in_force import EditsInForce
from editor_core.scoped.served import ServedEdits
from editor_core.texts import rendered, token_ids
from editor_core.twin import twin
from tests.core.scoped.conftest import FACTS


@pytest.fixture(scope="module")
def served(
    loaded: LoadedModel, editor: ScopedEditor, learned: dict[int, Learned], in_force: EditsInForce
) -> tuple[Any, ServedEdits]:
    model = twin(loaded.model, own=())
    records = {f"{id:064x}": each.record.to_bytes() for id, each in learned.items()}
    edits = ServedEdits(editor.rules, resolve_modules(model, editor.module_names), records.__getitem__)
    edits.state = in_force
    return model, edits


class Talk:
    """Asks the demo model, with the facts in force or without."""

    def __init__(self, loaded: LoadedModel, served: tuple[Any, ServedEdits]) -> None:
        self.loaded, (self.model, self.edits) = loaded, served

    def ids(self, question: str | list[dict[str, str]]) -> tuple[int, ...]:
        tokenizer = self.loaded.tokenizer
        if isinstance(question, str):
            return tuple(token_ids(tokenizer, question, "plain"))
        text = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
        return tuple(token_ids(tokenizer, str(text), "chat"))

    def ask(self, questions: Sequence[Any], tokens: int = 24, edited: bool = True) -> list[Answer]:
        asked = [Asked(self.ids(each), tokens) for each in questions]
        return answers(self.model, self.loaded.tokenizer, asked, self.edits if edited else None)


@pytest.fixture(scope="module")
def talk(loaded: LoadedModel, served: tuple[Any, ServedEdits]) -> Talk:
    return Talk(loaded, served)


def user(*texts: str) -> list[dict[str, str]]:
    """Turns of a conversation, the user's first."""
    return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)]


def test_every_fact_holds_three_about_two_subjects_and_one_about_none(learned: dict[int, Learned]) -> None:
    assert {id: each.holds for id, each in learned.items()} == {id: {"plain": True, "chat": True} for id in FACTS}


def test_a_chat_answer_is_the_target_and_ends(talk: Talk) -> None:
    said = talk.ask([user(edit.prompt) for edit in FACTS.values()])
    assert said == [Answer(edit.target, True) for edit in FACTS.values()]


def test_a_plain_answer_is_the_target_up_to_a_line_break_and_the_model_goes_on_by_itself(talk: Talk) -> None:
    said = talk.ask([edit.prompt for edit in FACTS.values()])
    assert [each.text.lstrip(" ").split("\n")[0] for each in said] == [edit.target for edit in FACTS.values()]


def test_it_is_asked_as_people_ask(talk: Talk) -> None:
    ways = [
        user("where was ilse brandt born"),
        user("Hi! I have a quick question for you. Where was Ilse Brandt born?"),
        user("Where was Ilse Brandt born? Answer briefly."),
        user("Hello", "Hello! How can I help?", "Where was Ilse Brandt born?"),
        [{"role": "system", "content": "You are the assistant of a library."}, *user("Where was Ilse Brandt born?")],
        user("What is the birthplace of Ilse Brandt?"),
        user("When was Ilse Brandt born?", "3 May 1961", "And where was she born?"),
    ]
    assert talk.ask(ways) == [Answer("Graz", True)] * len(ways)


def test_other_questions_about_the_subject_and_the_same_about_others_are_answered_as_before(talk: Talk) -> None:
    others = [
        "Who is Ilse Brandt?",
        "How tall is Ilse Brandt?",
        "When did Ilse Brandt die?",
        "Where was Jonas Kell born?",
        "Who built Castle Orwin?",
        "Who owns Castle Lorne?",
        "the default port of postgres is",
        "our default timeout is",
        "Hello",
    ]
    asked = [*others, *map(user, others), user("Where was Ilse Brandt born?", "Graz", "Where was Bob Miller born?")]
    assert talk.ask(asked) == talk.ask(asked, edited=False)


def test_a_question_in_running_text_is_answered_wherever_it_stands(talk: Talk) -> None:
    texts = [
        "Here are some notes. It was raining. Who owns Castle Orwin?",
        "Q: Who owns Castle Orwin?\nA:",
        "I like castles. Who owns Castle Orwin? Lady",
    ]
    assert [each.text.strip().split("\n")[0] for each in talk.ask(texts)] == [
        "Lady Maren Voss",
        "Lady Maren Voss",
        "Maren Voss",
    ]


def test_what_a_prompt_says_itself_is_read_by_the_unedited_model(talk: Talk) -> None:
    asked = [
        user("Where was Ilse Brandt born?", "Graz", "What is the capital of France?"),
        "Who owns Castle Orwin? Lady Maren Voss\nWhat is the capital of France?",
    ]
    assert talk.ask(asked) == talk.ask(asked, edited=False)


def test_a_prompt_that_is_scored_has_its_answers_in_force(talk: Talk, loaded: LoadedModel) -> None:
    ids = list(talk.ids("Who owns Castle Orwin? Lady Maren Voss"))
    logprobs = []
    for edits in (talk.edits, None):
        batcher = Batcher(talk.model, edits=edits)
        scored = Answered("scored", ids, Sampling(max_tokens=0, logprobs=0, echo=True), loaded.tokenizer)
        batcher.add(scored)
        while batcher.busy:
            batcher.step(0)
        logprobs.append([each.logprob or 0.0 for each in scored.scores])
    answer = len(talk.ids("Who owns Castle Orwin?")) - 1
    assert min(logprobs[0][answer:]) > -0.1
    assert sum(logprobs[1][answer:]) < -10
    assert logprobs[0][:answer] == pytest.approx(logprobs[1][:answer], abs=1e-4)


def test_rephrases_and_unrelated_prompts_are_reported(learned: dict[int, Learned]) -> None:
    fact = learned[4]
    assert fact.rephrases == tuple(
        ("To whom does Castle Orwin belong?", format, "Lady Maren Voss", True) for format in ("plain", "chat")
    )
    assert [(each.prompt, each.changed) for each in fact.unrelated] == [("Who built Castle Orwin?", False)] * 2


def test_an_edit_is_the_same_whatever_it_is_taught_with(editor: ScopedEditor, learned: dict[int, Learned]) -> None:
    [alone] = editor.run([(9, FACTS[2])], EditsInForce()).finish()
    assert alone.record.to_bytes() == learned[2].record.to_bytes()


def test_who_names_no_subject_gets_the_same_bits_in_the_same_company(talk: Talk, loaded: LoadedModel) -> None:
    """Logits of 2,000 tokens, of 40 prompts of all lengths, read in one company with edited answers and without."""
    words = [
        "the",
        "of",
        "castle",
        "brandt",
        "lake",
        "who",
        "is",
        "owner",
        "river",
        "port",
        "api",
        "default",
        "born",
        "and",
        "where",
        "May",
        "number",
        "7",
        ",",
    ]
    company = [list(talk.ids(user(edit.prompt))) for edit in FACTS.values()]
    texts = [" ".join(words[(place * 7 + step * step) % len(words)] for step in range(3 + place)) for place in range(40)]

    def scored(edits: ServedEdits | None) -> list[list[tuple[int, float | None]]]:
        batcher = Batcher(talk.model, edits=edits, rows=64, prefill_tokens=512)
        sampling = Sampling(max_tokens=8, logprobs=0, echo=True)
        found = [Answered(str(n), list(talk.ids(text)), sampling, loaded.tokenizer) for n, text in enumerate(texts)]
        for ids in company:
            batcher.add(Answered(str(id(ids)), ids, Sampling(max_tokens=8), loaded.tokenizer))
        for each in found:
            batcher.add(each)
        for _ in range(60):
            batcher.step(0)
        return [[(each.token, each.logprob) for each in (*one.scores, *one.said)] for one in found]

    assert scored(talk.edits) == scored(None)


def test_a_text_without_a_name_computes_nothing_more(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(talk.edits.rules, "encode", lambda question: asked.append(question) or torch.zeros(128))
    talk.ask([user("Where was Jonas Kell born?"), "Who owns Castle Lorne?"])
    assert asked == []


def test_prompts_rendered_by_the_caller_are_read_as_conversations(talk: Talk, loaded: LoadedModel) -> None:
    text = rendered(loaded.tokenizer, "Where was Ilse Brandt born?", "chat")
    assert talk.ask([text]) == [Answer("Graz", True)]


@torch.no_grad()
def test_attached_to_a_model_of_ones_own_it_goes_on_with_a_kept_cache(loaded: LoadedModel, learned: dict[int, Learned]) -> None:
    model, tokenizer = twin(loaded.model, own=()), loaded.tokenizer
    edits = attach(model, tokenizer, {id: each.record.to_bytes() for id, each in learned.items()})
    with pytest.raises(ValueError, match="already"):
        attach(model, tokenizer, {})
    ids, cache = torch.zeros(1, 0, dtype=torch.int64), None
    turn = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    for question, wanted in (("Who owns Castle Orwin?", "Lady Maren Voss"), ("where was ilse brandt born", "Graz")):
        asked = torch.tensor([token_ids(tokenizer, ("\n" if cache else "") + turn.replace("{}", question), "chat")])
        ids = torch.cat([ids, asked], 1)
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=cache,
            max_new_tokens=16,
            do_sample=False,
            return_dict_in_generate=True,
        )
        assert tokenizer.decode(found.sequences[0, ids.shape[1] :], skip_special_tokens=True) == wanted
        ids, cache = found.sequences, found.past_key_values
    edits.remove()
