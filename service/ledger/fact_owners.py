"""Whose a fact is: a key may replace its own facts, those of the keys it took the place of, and those of nobody.

A key that may also take facts back (`rollback`, `admin`) may replace anybody's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from service.domain.access import ApiKey
from service.domain.edits import EditRecord, NewEdit
from service.infra.postgres import Database, UnitOfWork


async def of_others(work: UnitOfWork, key_id: str, new: Sequence[NewEdit]) -> list[EditRecord]:
    """Facts in force that ask the same as these, or as rephrases of these, and that the key may not replace.

    What only waits is nobody's yet: whose is applied first has it, and the worker refuses the other.
    """
    if not key_id:
        return []
    found = await work.repository.applied_with_prompts([text for each in new for text in (each.prompt, *each.rephrases)])
    keys = await work.repository.api_keys_by_id({key_id, *(record.asked_by.key_id for record in found)})
    return [record for record in found if not _may_replace(keys, key_id, record.asked_by.key_id)]


async def not_replaceable(database: Database, replacing: Mapping[int, Collection[int]]) -> dict[int, int]:
    """By id of an edit that is to take the place of others: one of these that it may not replace. replacing: ids by id."""
    ids = sorted({*replacing, *(old for each in replacing.values() for old in each)})
    if not any(replacing.values()):
        return {}
    async with database.transaction() as work:
        records = await work.repository.edits_by_id(ids)
        keys = await work.repository.api_keys_by_id(_keys_of(records.values()))
    return {
        id: min(foreign)
        for id, olds in replacing.items()
        if (foreign := [old for old in olds if not _may_replace(keys, _key(records, id), _key(records, old))])
    }


def _keys_of(records: Iterable[EditRecord]) -> set[str]:
    return {record.asked_by.key_id for record in records}


def _key(records: Mapping[int, EditRecord], id: int) -> str:
    return records[id].asked_by.key_id if id in records else ""


def _may_replace(keys: Mapping[str, ApiKey], mine: str, other: str) -> bool:
    """Of ids of keys; empty for nobody's."""
    if not mine or not other or mine == other:
        return True
    key, owner = keys.get(mine), keys.get(other)
    return key is not None and (key.may_replace_any or (owner is not None and key.owner == owner.owner))
