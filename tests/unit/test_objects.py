"""The object store: what was put is there and whole, or is named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from service.errors import ObjectDamaged, ObjectsUnavailable
from service.infra.objects import ObjectStore


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


def test_an_object_is_named_by_its_content(store: ObjectStore) -> None:
    name = store.put(b"factors")
    assert name == hashlib.sha256(b"factors").hexdigest()
    assert store.get(name) == b"factors"
    assert store.put(b"factors") == name


def test_nothing_unfinished_is_left_behind(store: ObjectStore) -> None:
    name = store.put(b"factors")
    assert [path.name for path in store.path(name).parent.iterdir()] == [name]


def test_a_flipped_byte_is_found(store: ObjectStore) -> None:
    name = store.put(b"factors")
    store.path(name).write_bytes(b"factorz")
    with pytest.raises(ObjectDamaged, match=name):
        store.get(name)


def test_a_missing_object_is_named(store: ObjectStore) -> None:
    with pytest.raises(ObjectDamaged, match="is missing"):
        store.get("0" * 64)


def test_a_damaged_object_is_mended_by_putting_it_again(store: ObjectStore) -> None:
    name = store.put(b"factors")
    store.path(name).write_bytes(b"fac")
    store.put(b"factors")
    assert store.get(name) == b"factors"


def test_a_disk_that_takes_nothing_is_a_store_that_is_away_and_keeps_nothing_unfinished(store: ObjectStore) -> None:
    name = hashlib.sha256(b"factors").hexdigest()
    in_the_way = store.path(name)
    in_the_way.mkdir(parents=True)
    (in_the_way / "something").touch()
    with pytest.raises(ObjectsUnavailable, match="directory"):
        store.put(b"factors")
    with pytest.raises(ObjectsUnavailable):
        store.get(name)
    assert list(in_the_way.parent.iterdir()) == [in_the_way]
