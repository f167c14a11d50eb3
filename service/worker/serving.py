"""Answering questions: takes them from the generation stream, hands them to the engine, and says what it says."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import structlog
from redis.exceptions import RedisError

from editor_core.generation import News
from service import failpoints, metrics
from service.domain.messages import AHEAD, GenerateReply, GenerateRequest
from service.infra.listening import keep_running
from service.infra.streams import GenerationChannel, Group
from service.settings import Settings
from service.worker.engine import Engine, Ticket
from service.worker.model_thread import ModelThread
from service.worker.modes import Resident
from service.worker.outbox import Outbox
from service.worker.questions import Refused, Telling, read_only, sequence_for

log = structlog.get_logger()
MOST_PATIENT = 256  # questions that wait here for a revision
BLOCK_MS = 1000
ABANDONED_AFTER_S = 30.0  # beyond every deadline: only to clear entries of workers and askers that are gone
TIDY_INTERVAL_S = 5.0
FORGOTTEN_AFTER_MS = 3_600_000  # consumers of workers that are gone
REMEMBERED = 1000  # questions that are over


class Generations:
    """Serves until drained. `revision_changed` must be called whenever the resident model moves."""

    def __init__(
        self, consumer: str, resident: Resident, thread: ModelThread, channel: GenerationChannel, settings: Settings
    ) -> None:
        self._resident, self._channel, self._settings = resident, channel, settings
        self.engine = Engine(resident, thread, settings)
        self._outbox = Outbox(channel)
        self._questions: Group = channel.questions(consumer)
        self._entries: dict[str, str] = {}
        self._patient: dict[str, asyncio.Task[None]] = {}
        self._over: deque[str] = deque(maxlen=REMEMBERED)  # finished, or cancelled before they came
        self._acknowledging: set[asyncio.Task[None]] = set()
        self._moved, self._room = asyncio.Event(), asyncio.Event()
        self._draining = self._reading = False
        metrics.QUESTIONS_HELD.set_function(lambda: len(self._entries))

    def revision_changed(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Raises what ends the engine."""
        lasting = (
            keep_running("delivering answers", self._outbox.run),
            keep_running("hearing cancellations", self._hear),
            keep_running("taking questions", self._take_all),
        )
        parts = [asyncio.create_task(part) for part in (self.engine.run(), *lasting)]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()

    async def drain(self, timeout_s: float) -> None:
        """Take no more questions and finish those taken."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self._idle:  # noqa: ASYNC110 - five things to wait for, once in a process's life
                    await asyncio.sleep(0.02)

    @property
    def _idle(self) -> bool:
        return not (self._reading or self.engine.load or self._patient or self._acknowledging) and self._outbox.empty

    # --- taking ------------------------------------------------------------------------------------------------------

    async def _take_all(self) -> None:
        await self._questions.forget_consumers(FORGOTTEN_AFTER_MS)
        tidied_at = -TIDY_INTERVAL_S
        while True:
            self._room.clear()
            free = self._free()
            if free <= 0 or self._draining:
                await self._room.wait()
                continue
            self._reading = True
            try:
                await self._take(await self._questions.read(count=free, block_ms=BLOCK_MS))
                if time.monotonic() - tidied_at >= TIDY_INTERVAL_S:
                    await self._tidy()
                    tidied_at = time.monotonic()
            finally:
                self._reading = False

    async def _tidy(self) -> None:
        """Take what was lost on the way here, and clear what nobody works on or waits for."""
        await self._take(await self._questions.handed_out(set(self._entries.values())))
        abandoned_after_s = self._settings.generate_timeout_s + ABANDONED_AFTER_S
        abandoned = await self._questions.take_over(int(abandoned_after_s * 1000))
        await self._questions.done(*(entry for entry, _ in abandoned))

    def _free(self) -> int:
        return min(self._settings.max_running + AHEAD - self.engine.load, MOST_PATIENT - len(self._patient))

    async def _take(self, taken: Sequence[tuple[str, dict[str, str]]]) -> None:
        """From here on a question's times are by this process's monotonic clock."""
        waited_s = await self._questions.waited_s([entry for entry, _ in taken]) if taken else []
        for (entry, fields), so_long_s in zip(taken, waited_s, strict=True):
            try:
                request = GenerateRequest.from_json(fields["request"])
            except (KeyError, ValueError, TypeError, RecursionError) as error:
                log.warning("question not understood", detail=str(error))
                self._acknowledge(entry)
                continue
            self._entries[request.id] = entry
            sent_at = time.monotonic() - so_long_s
            self._consider(replace(request, sent_at=sent_at, deadline=sent_at + request.deadline - request.sent_at))

    def _consider(self, request: GenerateRequest) -> None:
        if request.id in self._over:
            metrics.REQUEST_SUCCESS.labels("abort").inc()
            self._finished(request.id)
        elif request.deadline < time.monotonic():
            metrics.REQUEST_SUCCESS.labels("abort").inc()
            self._refuse(request, "generation_timed_out", "no worker was free in time")
        elif self._resident.revision >= request.min_revision:
            self._begin(request)
        else:
            self._patient[request.id] = asyncio.create_task(self._begin_at_revision(request))

    async def _begin_at_revision(self, request: GenerateRequest) -> None:
        try:
            if await self._reach(request.min_revision, request.deadline):
                self._begin(request)
            else:
                detail = f"this worker serves revision {self._resident.revision}, not yet {request.min_revision}"
                self._refuse(request, "revision_not_reached", detail)
        finally:
            self._patient.pop(request.id, None)
            self._room.set()

    async def _reach(self, revision: int, deadline: float) -> bool:
        while self._resident.revision < revision:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._moved.wait()
        return True

    def _begin(self, request: GenerateRequest) -> None:
        metrics.QUEUE_SECONDS.observe(time.monotonic() - request.sent_at)
        resident = self._resident
        failpoints.hit("question.begun", [request.prompt])
        try:
            if request.is_read_only:
                self._outbox.put(request.reply_to, read_only(resident.model, resident.tokenizer, request))
                self._finished(request.id)
                return
            sequence = sequence_for(resident.model, resident.tokenizer, request, self._settings.max_prompt_tokens)
        except Refused as error:
            self._refuse(request, error.code, error.detail)
            return
        except Exception as error:  # whatever a question does to a tokenizer or a template is its own affair
            log.exception("a question could not be read", key_id=request.key_id)
            self._refuse(request, "generation_failed", f"{type(error).__name__}: the question could not be read")
            return
        telling = Telling(request, sequence, resident.tokenizer)

        def told(news: News) -> None:
            reply = telling.reply(news)
            if reply is not None:
                self._outbox.put(request.reply_to, reply)
            if news.finish_reason:
                self._finished(request.id)

        self.engine.submit(
            Ticket(sequence, told, lambda code, detail: self._refuse(request, code, detail), request.sent_at, request.deadline)
        )

    def _refuse(self, request: GenerateRequest, code: str, detail: str) -> None:
        self._outbox.put(request.reply_to, GenerateReply(request.id, error_code=code, error_detail=detail))
        self._finished(request.id)

    def _finished(self, id: str) -> None:
        self._over.append(id)
        entry = self._entries.pop(id, None)
        if entry is not None:
            self._acknowledge(entry)
        self._room.set()

    def _acknowledge(self, entry: str) -> None:
        task = asyncio.create_task(self._done(entry))
        self._acknowledging.add(task)
        task.add_done_callback(self._acknowledging.discard)

    async def _done(self, entry: str) -> None:
        with contextlib.suppress(RedisError):  # it is cleared when it is old
            await self._questions.done(entry)

    # --- letting go --------------------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        async for id in self._channel.cancellations():
            self._let_go(id)

    def _let_go(self, id: str) -> None:
        patient = self._patient.get(id)
        if patient is not None:
            patient.cancel()
        elif not self.engine.cancel(id):
            self._over.append(id)
            return
        self._finished(id)
