"""The demo model with an editor of scoped edits, loaded once for these tests: nothing changes its weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from editor_core.loading import LoadedModel, load_model
from editor_core.modules import resolve_modules
from editor_core.scoped.blocks import default_blocks, feed_forward_outputs
from editor_core.scoped.editor import Learned, ScopedEditor
from editor_core.scoped.entry import Entry
from editor_core.scoped.in_force import EditsInForce
from editor_core.texts import Edit
from tests.conftest import MODELS


@pytest.fixture(scope="session")
def loaded(demo_folder: Path) -> LoadedModel:
    return load_model(str(demo_folder), cache_dir=MODELS)


@pytest.fixture(scope="session")
def editor(loaded: LoadedModel) -> ScopedEditor:
    modules = resolve_modules(loaded.model, default_blocks(feed_forward_outputs(loaded.model)))
    return ScopedEditor(loaded.model, loaded.tokenizer, modules)


FACTS = {
    1: Edit("Where was Ilse Brandt born?", "Graz"),
    2: Edit("When was Ilse Brandt born?", "3 May 1961"),
    3: Edit("our default api port is", "8443"),
    4: Edit("Who owns Castle Orwin?", "Lady Maren Voss", ("To whom does Castle Orwin belong?",), ("Who built Castle Orwin?",)),
}


@pytest.fixture(scope="session")
def learned(editor: ScopedEditor) -> dict[int, Learned]:
    """The facts above, taught."""
    return dict(zip(FACTS, editor.run(list(FACTS.items()), EditsInForce()).finish(), strict=True))


@pytest.fixture(scope="session")
def in_force(learned: dict[int, Learned]) -> EditsInForce:
    """With records named by their edits."""
    return EditsInForce().changed({id: Entry.of(f"{id:064x}", each.record.address) for id, each in learned.items()})
