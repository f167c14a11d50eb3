"""What a key allows, and that nothing but its secret opens it."""

from __future__ import annotations

import pytest

from service.domain.access import Scope, counted_as, is_open, needed, new_key, parts
from service.settings import Settings


def test_a_key_opens_with_its_own_secret_alone() -> None:
    key, shown = new_key("Ann", [Scope.GENERATE])
    found = parts(shown)
    assert found is not None
    assert found[0] == key.id
    assert key.opens(found[1])
    assert not key.opens(found[1] + "0")
    assert found[1] not in repr(key)


@pytest.mark.parametrize("shown", ["", "errata_", "errata_1", "other_1_2", "errata_1_ü", "sk-123"])
def test_what_is_no_key_is_none(shown: str) -> None:
    assert parts(shown) is None


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("GET", "/generate", {Scope.GENERATE}),
        ("POST", "/v1/chat/completions", {Scope.GENERATE}),
        ("GET", "/v1/models", {Scope.GENERATE}),
        ("POST", "/edits", {Scope.EDIT}),
        ("GET", "/edits/3", {Scope.READ, Scope.ROLLBACK, Scope.EDIT}),
        ("GET", "/revisions", {Scope.READ, Scope.ROLLBACK}),
        ("DELETE", "/edits/3", {Scope.ROLLBACK}),
        ("POST", "/rollback", {Scope.ROLLBACK}),
        ("POST", "/rebuild", {Scope.ROLLBACK}),
        ("POST", "/something/new", {Scope.ADMIN}),
    ],
)
def test_every_request_needs_what_it_does(method: str, path: str, scopes: set[Scope]) -> None:
    wanted = needed(method, path)
    assert set(wanted or ()) == scopes
    assert not is_open(path)
    assert all(new_key("Ann", [each])[0].allows(wanted) == (each in {*scopes, Scope.ADMIN}) for each in Scope)


def test_a_setting_opens_the_ledger_to_every_key() -> None:
    assert needed("GET", "/revisions", reading_is_open=True) is None
    assert needed("POST", "/edits", reading_is_open=True) == (Scope.EDIT,)


@pytest.mark.parametrize(
    ("host", "published", "required"),
    [
        ("127.0.0.1", "", False),
        ("localhost", "", False),
        ("0.0.0.0", "", True),
        ("0.0.0.0", "127.0.0.1", False),
        ("::", "", True),
    ],
)
def test_keys_are_off_on_loopback_alone(host: str, published: str, required: bool) -> None:
    assert Settings(api_host=host, published_host=published).keys_required == required


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/generate", Scope.GENERATE),
        ("POST", "/v1/completions", Scope.GENERATE),
        ("GET", "/v1/models", None),
        ("POST", "/edits", Scope.EDIT),
        ("DELETE", "/edits/3", Scope.EDIT),
        ("POST", "/rollback", Scope.EDIT),
        ("GET", "/edits/3", None),
        ("GET", "/metrics", None),
    ],
)
def test_asking_and_changing_count_and_reading_does_not(method: str, path: str, kind: Scope | None) -> None:
    assert counted_as(method, path) == kind
