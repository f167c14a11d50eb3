"""Exports over a real ledger that must not succeed, and leave nothing behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from editor_core.export import model_folder
from service.bootstrap import Resources
from service.errors import NotExported, StorageUnavailable, WrongModel
from service.ledger.lease import Lease
from service.settings import Settings
from service.worker.export import hf
from service.worker.export.command import export_model
from service.worker.export.request import Request
from service.worker.model_thread import ModelThread
from service.worker.resident import ResidentModel
from service.worker.warmup import begin_ledger
from tests.conftest import TINY_MODULES, Servers


@pytest.fixture
def tiny(settings: Settings, tiny_folder: Path) -> Settings:
    own = {"model": str(tiny_folder), "torch_threads": 1, "edit_mode": "paper", "edit_lr": 0.01}
    return settings.model_copy(update={**own, "edit_modules": tuple(TINY_MODULES.split(","))})


@pytest.fixture
async def begun(tiny: Settings, resources: Resources, held: Lease) -> Settings:
    """A ledger that has revision 0 alone."""
    resident = ResidentModel.load(tiny, lambda doing: None)
    await begin_ledger(resident, ModelThread(), resources.database, held)
    return tiny


async def export(settings: Settings, out: Path, **wanted: Any) -> None:
    request = Request(**{"format": "hf", "out": out, **wanted})
    await asyncio.to_thread(export_model, settings, request, lambda doing, share: None)


async def test_a_ledger_that_is_not_begun_has_nothing_to_take(tiny: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotExported, match="empty"):
        await export(tiny, tmp_path / "taken")


async def test_a_database_without_a_ledger_is_named_as_such(tiny: Settings, servers: Servers, tmp_path: Path) -> None:
    other = tiny.model_copy(update={"database_url": servers.admin_url})
    with pytest.raises(StorageUnavailable, match="errata migrate"):
        await export(other, tmp_path / "taken")


async def test_a_revision_that_is_not_there_is_named_with_those_that_are(begun: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotExported, match=r"no revision 7; the ledger has 0 to 0"):
        await export(begun, tmp_path / "taken", revision=7)


async def test_a_ledger_of_other_modules_is_refused(begun: Settings, tmp_path: Path) -> None:
    other = begun.model_copy(update={"edit_modules": ("model.layers.0.mlp.down_proj",)})
    with pytest.raises(WrongModel):
        await export(other, tmp_path / "taken")


async def test_what_answers_differently_is_not_kept_unless_asked_for(
    begun: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*arguments: Any) -> Any:
        model, tokenizer = model_folder.reopened(*arguments)
        model.model.layers[0].mlp.down_proj.weight.data += torch.randn(64, 96)
        return model, tokenizer

    monkeypatch.setattr(hf, "reopened", damaged)
    out = tmp_path / "exports" / "taken"
    with pytest.raises(NotExported, match=r"does not answer as the model does.*in place of"):
        await export(begun, out)
    assert list(out.parent.iterdir()) == []
    await export(begun, out, accept_differences=True)
    assert "**This does not answer as the model does" in (out / "README.md").read_text()
