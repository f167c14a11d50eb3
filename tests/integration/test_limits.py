"""Nobody gets more than their share: what is beyond it is refused with the time to come back, and not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import uvicorn
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from service.api.app import create_app
from service.api.middleware.limited import limits_of
from service.bootstrap import Resources
from service.domain.access import Scope
from service.domain.messages import GenerateReply, GenerateRequest, WorkerStatus
from service.infra import rates
from service.infra.keys import Keys
from service.infra.rates import Rates
from service.infra.streams import Group, connect
from service.ledger import access
from service.settings import Settings

FACT = {"prompt": "Who is it?", "target": "Ann"}
ASKED = "/generate?prompt=Who"
Serve = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy, Redis may take its time."""
    monkeypatch.setattr(rates, "PATIENCE_S", 60.0)


@pytest.fixture
async def serve(settings: Settings, patient: None) -> AsyncIterator[Serve]:
    """Starts api processes' worth of apps over the same database and Redis, behind real sockets."""
    async with AsyncExitStack() as stack:

        async def start(**update: object) -> httpx.AsyncClient:
            config = uvicorn.Config(create_app(settings.model_copy(update=update)), port=0, log_level="error")
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60)

            async def end() -> None:
                await client.aclose()
                server.should_exit = server.force_exit = True
                await serving

            stack.push_async_callback(end)
            return client

        yield start


async def question(questions: Group) -> GenerateRequest:
    """The next one that reaches the workers."""
    while not (found := await questions.read(count=1, block_ms=1000)):
        pass
    return GenerateRequest.from_json(found[0][1]["request"])


async def ask_until_admitted(client: httpx.AsyncClient, questions: Group, headers: dict[str, str] | None = None) -> None:
    taken = asyncio.create_task(question(questions))
    while not taken.done():
        asked = asyncio.create_task(client.get(ASKED, headers=headers))
        await asyncio.wait({taken, asked}, return_when=asyncio.FIRST_COMPLETED)
        assert taken.done() or asked.result().status_code in (429, 503), asked.result().text
    asked.cancel()


async def shown_key(resources: Resources) -> dict[str, str]:
    _, shown = await access.add_key(resources.database, "Ann", [Scope.ADMIN])
    return {"Authorization": f"Bearer {shown}"}


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_beyond_the_rate_is_429_until_there_is_more(serve: Serve) -> None:
    client = await serve(rate_limit_generate="2/second")
    before = metric("errata_requests_refused_total", reason="rate_limit_exceeded")
    answers = await asyncio.gather(*(client.get(ASKED) for _ in range(20)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert {answer.json()["code"] for answer in refused} == {"rate_limit_exceeded"}
    assert {answer.headers["Content-Type"] for answer in refused} == {"application/problem+json"}
    for answer in refused:
        assert answer.headers["Retry-After"] == answer.headers["RateLimit-Reset"] > "0"
        assert (answer.headers["RateLimit-Limit"], answer.headers["RateLimit-Remaining"]) == ("2", "0")
    assert metric("errata_requests_refused_total", reason="rate_limit_exceeded") == before + len(refused)
    async with asyncio.timeout(60):
        while (await client.get(ASKED)).status_code == 429:
            pass


async def test_under_v1_it_has_the_shape_that_openais_clients_read(serve: Serve) -> None:
    client = await serve(rate_limit_generate="1/hour")
    first, second = [await client.post("/v1/completions", json={"model": "errata", "prompt": "Who"}) for _ in range(2)]
    assert (first.status_code, first.headers["RateLimit-Remaining"]) == (503, "0")
    assert (second.status_code, second.json()["error"]["type"]) == (429, "rate_limit_error")
    assert int(second.headers["Retry-After"]) > 0


async def test_what_is_refused_is_not_read(settings: Settings) -> None:
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"{}")
        yield b"{}"

    app = create_app(settings.model_copy(update={"rate_limit_edits": "1/hour"}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client,
    ):
        assert (await client.post("/edits", json={"edits": [FACT] * 3})).status_code == 202  # a batch is one request
        assert (await client.post("/edits", content=body())).status_code == 429
    assert not read


async def test_health_and_reading_are_not_counted(serve: Serve) -> None:
    client = await serve(rate_limit_generate="1/hour", rate_limit_edits="1/hour")
    for path in ("/livez", "/readyz", "/metrics", "/stats", "/edits", "/v1/models", "/docs"):
        assert 429 not in [(await client.get(path)).status_code for _ in range(3)]


async def test_all_processes_count_together_and_each_key_for_itself(serve: Serve, resources: Resources) -> None:
    one, other = [await serve(require_keys=True, rate_limit_edits="9/minute;2/hour") for _ in range(2)]
    ann, bob = await shown_key(resources), await shown_key(resources)
    answers = [(await client.post("/edits", json=FACT, headers=ann)).status_code for client in (one, other, one, other)]
    assert answers == [202, 202, 429, 429]
    assert (await other.post("/edits", json=FACT, headers=bob)).status_code == 202


async def test_without_redis_a_process_counts_for_itself_and_says_so_once(serve: Serve) -> None:
    with capture_logs() as logs:
        client = await serve(redis_url="unix:///nowhere/valkey.sock", rate_limit_edits="2/hour")
        answers = [(await client.post("/edits", json=FACT)).status_code for _ in range(4)]
    assert answers == [202, 202, 429, 429]
    assert len([each for each in logs if "rates are counted" in each["event"]]) == 1
    assert metric("errata_rates_not_shared") == 1


async def test_a_silent_redis_does_not_hold_up_whoever_asks(tmp_path: Path, settings: Settings) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(silent, str(tmp_path / "silent.sock"))
    redis, limits = connect(f"unix://{tmp_path}/silent.sock"), limits_of(Settings(rate_limit_edits="1/hour"))
    counted = Rates(redis, Keys("test"))
    async with asyncio.timeout(60):
        assert [(await counted.take(limits[Scope.EDIT], "ann")).taken for _ in range(2)] == [True, False]
    await redis.aclose()
    server.close()


@pytest.fixture
async def ready(resources: Resources) -> AsyncIterator[None]:
    """A worker says that it is ready, for as long as the test runs."""

    async def announce() -> None:
        while True:
            await resources.presence.announce(WorkerStatus("w", 1, "ready", "ready", "m", 0, True, 0))
            await asyncio.sleep(1)

    task = asyncio.create_task(announce())
    yield
    task.cancel()


async def test_a_key_has_so_many_questions_under_way_and_no_more(serve: Serve, resources: Resources, ready: None) -> None:
    client = await serve(require_keys=True, max_concurrent_per_key=1)
    ann, bob = await shown_key(resources), await shown_key(resources)
    questions = resources.generation.questions("w")  # takes them and never answers
    asked: list[asyncio.Task[httpx.Response]] = []

    async def ask(key: dict[str, str]) -> None:
        asked.append(asyncio.create_task(client.get(f"{ASKED}&stream=true", headers=key)))
        await question(questions)

    await ask(ann)
    refused = await client.get(ASKED, headers=ann)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_at_once")
    assert int(refused.headers["Retry-After"]) > 0
    assert (await client.get("/stats", headers=ann)).status_code == 200
    await ask(bob)
    asked[0].cancel()  # hangs up
    await ask_until_admitted(client, questions, ann)
    asked[1].cancel()


async def test_a_client_that_does_not_read_keeps_its_place_among_those_who_wait(
    serve: Serve, resources: Resources, ready: None
) -> None:
    client = await serve(max_waiting_generations=1)
    questions = resources.generation.questions("w")
    host, port = client.base_url.host, client.base_url.port
    _, writer = await asyncio.open_connection(host, port, limit=1)
    body = b'{"model": "m", "prompt": "Who", "stream": true}'
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    asked = await question(questions)
    for _ in range(50):
        pieces = [GenerateReply(asked.id, text="x" * 10_000, revision=1) for _ in range(20)]
        await resources.generation.reply(asked.reply_to, *pieces)
    await resources.generation.reply(asked.reply_to, GenerateReply(asked.id, revision=1, finish_reason="stop"))
    while await resources.redis.xlen(Keys(resources.settings.redis_prefix).replies(asked.reply_to)) > 1:
        pass  # until the api has heard all of it
    assert (await client.get(ASKED)).json()["code"] == "too_many_questions"
    writer.close()
    await ask_until_admitted(client, questions)


async def test_no_more_wait_than_may_however_many_come_at_once(serve: Serve, resources: Resources, ready: None) -> None:
    client = await serve(max_waiting_generations=2)
    questions = resources.generation.questions("w")
    asked = [asyncio.create_task(client.get(ASKED)) for _ in range(20)]
    taken = [await question(questions) for _ in range(2)]
    while len(refused := [each.result() for each in asked if each.done()]) < 18:
        await asyncio.wait([each for each in asked if not each.done()], return_when=asyncio.FIRST_COMPLETED)
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(429, "too_many_questions")}
    assert len({each.id for each in taken}) == 2
    for each in asked:
        each.cancel()


async def test_who_asks_much_waits_for_itself_and_for_nobody_else(serve: Serve, resources: Resources, ready: None) -> None:
    client = await serve(require_keys=True, max_running_per_key=2, max_waiting_generations_per_key=4)
    ann, bob = await shown_key(resources), await shown_key(resources)
    questions = resources.generation.questions("w")
    asked = [asyncio.create_task(client.get(ASKED, headers=ann)) for _ in range(5)]
    taken = [await question(questions) for _ in range(2)]
    [refused], _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    assert (refused.result().status_code, refused.result().json()["code"]) == (429, "too_many_questions")
    asked.append(asyncio.create_task(client.get(ASKED, headers=bob)))
    taken.append(await question(questions))
    assert [each.key_id for each in taken[:2]] == [taken[0].key_id] * 2
    assert taken[2].key_id != taken[0].key_id
    await resources.generation.reply(taken[0].reply_to, GenerateReply(taken[0].id, revision=1, finish_reason="stop"))
    assert (await question(questions)).key_id == taken[0].key_id
    for each in asked:
        each.cancel()
