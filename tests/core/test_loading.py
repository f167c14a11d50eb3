"""Where models come from."""

from pathlib import Path

import pytest
import torch

from editor_core.errors import ModelLoadError
from editor_core.loading import demo_gguf, load_model


def test_a_local_folder_loads_in_evaluation_mode_and_wants_no_gradient(tiny_folder: Path, tmp_path: Path) -> None:
    loaded = load_model(str(tiny_folder), cache_dir=tmp_path)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.name == "tiny"
    assert loaded.tokenizer.pad_token_id is not None


def test_a_gguf_file_named_by_path_is_the_demo_model(demo_folder: Path) -> None:
    loaded = load_model(str(demo_gguf()), cache_dir=demo_folder.parent)
    assert loaded.folder == str(demo_folder)
    assert next(loaded.model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("source", ["/nowhere/model.gguf", "no/such-model-anywhere-zzz"])
def test_what_is_not_there_is_named(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadError, match=source):
        load_model(source, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
