"""`errata verify`: one line for each thing that holds, and what does not, named."""

from __future__ import annotations

from collections.abc import AsyncIterator

from service.bootstrap import Resources, build
from service.cli import show
from service.ledger.verify import Check, checks
from service.settings import Settings


async def verify(settings: Settings, weights: bool, deep: bool) -> bool:
    """Whether everything holds. Raises ErrataError when the ledger cannot be read, ModelLoadError."""
    resources = build(settings.model_copy(update={"redis_url": settings.redis_url or "unix:///nowhere"}), "verify")
    everything = True
    try:
        async for check in _all(resources, weights, deep):
            everything &= check.holds
            _show(check)
    finally:
        await resources.close()
    return everything


async def _all(resources: Resources, weights: bool, deep: bool) -> AsyncIterator[Check]:
    async for check in checks(resources.database, resources.objects(), resources.settings.rollback_window):
        yield check
    if weights:
        from service.worker.verify import weight_checks

        with show.console.status("loading the model") as status:
            async for check in weight_checks(resources, status.update, deep):
                yield check


def _show(check: Check) -> None:
    mark = "[green]ok[/]    " if check.holds else "[red]WRONG[/] "
    first, *more = check.wrong or [check.summary]
    show.console.print(f"{mark} {check.name}: {show.escape(first)}", highlight=False, soft_wrap=True)
    for each in more:
        show.console.print(f"        {show.escape(each)}", highlight=False, soft_wrap=True)
