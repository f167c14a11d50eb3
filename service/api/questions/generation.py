"""Asking a worker and hearing its answer: one reader of this process's reply stream serves all who wait.

A question whose worker has gone is asked again, where nothing of its answer has been told.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass

import structlog

from service import metrics
from service.api.questions.turns import Place, Turns
from service.api.questions.watch import Asked, Watch
from service.domain.messages import GenerateReply, GenerateRequest, WorkerStatus
from service.errors import (
    AnswerLost,
    ErrataError,
    GenerationTimeout,
    InvalidInput,
    ModelNotReady,
    QueueFull,
    RevisionNotReached,
)
from service.infra.listening import keep_running
from service.infra.postgres import Database
from service.infra.streams import GenerationChannel, Presence
from service.ledger import read

log = structlog.get_logger()
BLOCK_MS = 2000
DEAF_AFTER_S = 6.0  # without having come back from Redis, with answers or with none
GRACE_S = 0.5  # after the deadline, for the worker's own word on it
SLOW_S = 30.0  # beyond the deadline, for a client to take what is there
MOST_TRIES = 3  # of a question that loses its worker: as it came, with those that were lost with it, alone
READY_FOR_S = 1.0  # how long it is believed that a worker is ready
_ERRORS: dict[str, type[ErrataError]] = {
    "prompt_too_long": InvalidInput,
    "empty_prompt": InvalidInput,
    "unknown_token": InvalidInput,
    "no_chat_template": InvalidInput,
    "messages_not_taken": InvalidInput,
    "revision_not_reached": RevisionNotReached,
    "generation_timed_out": GenerationTimeout,
}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, whatever door it came through; see `GenerateRequest`."""

    prompt: str = ""
    tokens: list[int] | None = None
    messages: list[dict[str, str]] | None = None
    chat: bool = False
    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    stop: list[str] | None = None
    seed: int | None = None
    logprobs: int | None = None
    echo: bool = False
    min_revision: int = 0
    key_id: str = ""
    goes_on: bool | None = None
    special_tokens: bool = True
    is_read_only: bool = False

    @property
    def most_tokens(self) -> int:
        """Of the question, counted or else at two characters a token, and its answer."""
        characters = len(self.prompt) + sum(len(each["content"]) for each in self.messages or ())
        return (characters // 2 if self.tokens is None else len(self.tokens)) + self.max_tokens


class Questions:
    """The open questions of this api process."""

    def __init__(
        self,
        channel: GenerationChannel,
        presence: Presence,
        database: Database,
        *,
        timeout_s: float,
        max_waiting: int,
        max_waiting_per_key: int,
        turns: Turns,
        at_once: int,
    ) -> None:
        self._channel, self._presence, self._database = channel, presence, database
        self._timeout_s, self._max_waiting, self._max_waiting_per_key = timeout_s, max_waiting, max_waiting_per_key
        self._turns = turns
        self.at_once = at_once  # of one request's questions
        self._api_id = uuid.uuid4().hex
        self._asked: dict[str, Asked] = {}  # by the id of a question in the stream
        self._listened_at: float | None = None  # monotonic seconds
        self.open = Counter[str]()  # questions by API key, those that wait for their turn among them
        self._one_at_a_time = asyncio.Lock()
        self.watch = Watch(channel, presence, self._asked)
        self._known_until, self._models, self._served = 0.0, dict[str, WorkerStatus](), 0
        metrics.OPEN_QUESTIONS.set_function(lambda: self.open.total())

    @property
    def longest_s(self) -> float:
        """After so long a client has its answer, or does not want it."""
        return self._timeout_s + SLOW_S

    async def listen(self) -> None:
        """Bring answers to those who wait. Whatever ends it, `keep_running` begins it anew."""
        heard: list[str] = []
        try:
            while True:
                block_ms = BLOCK_MS if self._listened_at else 1  # ready as soon as Redis has answered once
                heard, replies = await self._channel.replies(self._api_id, heard, block_ms)
                self._listened_at = time.monotonic()
                for reply in replies:
                    asked = self._asked.get(reply.id)
                    if asked is not None:  # else it comes from a worker that was given up, or its asker has gone
                        asked.hear(reply)
        finally:
            self._listened_at = None

    @property
    def is_listening(self) -> bool:
        """Whether an answer would be heard now."""
        return self._listened_at is not None and time.monotonic() - self._listened_at < DEAF_AFTER_S

    async def models(self) -> Mapping[str, WorkerStatus]:
        """The models that workers have ready, by name, each with who has had it for longest. Raises StorageUnavailable."""
        if time.monotonic() > self._known_until:
            ready = [worker for worker in await self._presence.workers() if worker.state == "ready"]
            self._models = {each.model: each for each in sorted(ready, key=lambda each: each.ready_at, reverse=True)}
            self._served = max((worker.revision for worker in ready), default=0)
            self._known_until = time.monotonic() + (READY_FOR_S if ready else 0)
            self._turns.workers = max(len(ready), 1)
            self._turns.hand_out()
        return self._models

    async def admit(self, count: int = 1, min_revision: int = 0, key_id: str = "") -> None:
        """Whether so many questions can be asked now by an API key, of that revision.

        Raises ModelNotReady, QueueFull, RevisionNotReached or StorageUnavailable.
        """
        if not await self.models():
            raise ModelNotReady("no worker has the model ready; GET /readyz says what it is waiting for", retry_after_s=5)
        self._check_room(min(count, self.at_once), key_id)
        if min_revision > self._served:
            to_come = await read.newest_to_come(self._database)
            if min_revision > to_come:
                raise RevisionNotReached(f"revision {min_revision} is not on its way: the newest that is, is {to_come}")

    def _check_room(self, count: int, key_id: str) -> None:
        limits = [(self.open.total(), "", self._max_waiting)]
        if key_id:
            limits.append((self.open[key_id], " of this key", self._max_waiting_per_key))
        for waiting, whose, most in limits:
            if waiting + count > most:
                detail = f"{waiting} questions{whose} are waiting for an answer, and {most} may"
                raise QueueFull(detail, code="too_many_questions", retry_after_s=2)

    async def stream(self, question: Question, *, stream: bool = True) -> AsyncGenerator[GenerateReply]:
        """The answer in pieces, the last one with its finish_reason. Leaving early frees the question's place in the model.

        Raises GenerationTimeout, AnswerLost, ModelNotReady, RevisionNotReached, InvalidInput, QueueFull or StorageUnavailable.
        """
        self._check_room(1, question.key_id)  # once more: others may have been admitted in the same moment
        self.open[question.key_id] += 1
        until, losses, told = time.monotonic() + self._timeout_s, 0, False
        try:
            while True:
                try:
                    async with (
                        self._turn(losses, until),
                        contextlib.aclosing(self._replies(question, until, stream)) as replies,
                    ):
                        async for reply in replies:
                            told = True
                            yield reply
                    return
                except AnswerLost as error:
                    losses += 1
                    is_last = told or losses == MOST_TRIES or (losses > 1 and error.was_alone)
                    _note(error, "told" if is_last else "asked_again")
                    if is_last:
                        raise
        finally:
            self.open[question.key_id] -= 1
            if not self.open[question.key_id]:
                del self.open[question.key_id]

    @contextlib.asynccontextmanager
    async def _turn(self, losses: int, until: float) -> AsyncIterator[None]:
        """Questions that were lost twice in company are asked one at a time: the one that ends workers takes no more along."""
        async with contextlib.AsyncExitStack() as turn:
            if losses > 1:
                async with self._patience(until):
                    await turn.enter_async_context(self._one_at_a_time)
            yield

    async def _replies(self, question: Question, until: float, stream: bool) -> AsyncGenerator[GenerateReply]:
        """Ask once, as a question of its own: what is said to an earlier try of it is not heard."""
        async with contextlib.AsyncExitStack() as held:
            async with self._patience(until):
                place = await held.enter_async_context(self._turns.place(question.key_id, question.most_tokens))
            async with contextlib.aclosing(self._replies_at(place, question, until, stream)) as replies:
                async for reply in replies:
                    yield reply

    async def _replies_at(self, place: Place, question: Question, until: float, stream: bool) -> AsyncGenerator[GenerateReply]:
        """The place is given back with the last reply, whenever the client takes it."""
        now = time.time()
        values = {name: getattr(question, name) for name in Question.__slots__}
        deadline = now + max(until - time.monotonic(), 0)
        request = GenerateRequest(
            id=uuid.uuid4().hex, reply_to=self._api_id, sent_at=now, deadline=deadline, stream=stream, **values
        )
        asked = self._asked[request.id] = Asked(place.give_back)
        ended = False
        try:
            asked.entry = await self._channel.ask(request)
            while not ended:
                async with self._patience(until):
                    reply = await asked.heard.get()
                if isinstance(reply, ErrataError):
                    raise reply
                ended = reply.last
                if reply.error_code:
                    raise _ERRORS.get(reply.error_code, ErrataError)(reply.error_detail, code=reply.error_code)
                yield reply
        finally:
            del self._asked[request.id]
            if not ended:
                await asyncio.shield(self._channel.withdraw(request.id, asked.entry))

    @contextlib.asynccontextmanager
    async def _patience(self, until: float) -> AsyncIterator[None]:
        """Raises GenerationTimeout soon after `until`."""
        try:  # not wait_for, which before Python 3.12 loses a cancellation that comes together with a reply
            async with asyncio.timeout(max(until - time.monotonic(), 0) + GRACE_S):
                yield
        except TimeoutError:
            raise GenerationTimeout(f"no answer within {self._timeout_s:.0f} s", retry_after_s=5) from None

    async def ask(self, question: Question) -> GenerateReply:
        """The whole answer. Raises what `stream` raises."""
        async with contextlib.aclosing(self.stream(question, stream=False)) as replies:
            return await anext(replies)


def _note(error: AnswerLost, outcome: str) -> None:
    metrics.QUESTIONS_LOST.labels(outcome).inc()
    log.warning("a question was lost", code=error.code, detail=error.detail, outcome=outcome)


@contextlib.asynccontextmanager
async def listening(questions: Questions) -> AsyncIterator[None]:
    tasks = [
        asyncio.create_task(keep_running("listening for answers", questions.listen)),
        asyncio.create_task(keep_running("looking after questions", questions.watch.run)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
