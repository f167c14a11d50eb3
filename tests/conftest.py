"""What all tests share: the demo model, a tiny random model, a real Postgres and a real Valkey, each started once."""

from __future__ import annotations

import json
import shutil
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import torch

from editor_core.loading import LoadedModel, load_model
from service.infra.migrate import migrate
from service.local.postgres import EmbeddedPostgres
from service.local.processes import end_server
from service.local.valkey import EmbeddedValkey
from service.settings import Settings

MODELS = Path(".errata/models")  # the demo model is unpacked once for the demo and the tests alike
TINY = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
TINY_MODULES = "model.layers.2.mlp.down_proj,model.layers.3.mlp.down_proj"


@pytest.fixture(scope="session")
def demo_folder() -> Path:
    """Where the demo model lies as safetensors."""
    return Path(load_model("demo", cache_dir=MODELS).folder)


@pytest.fixture
def demo(demo_folder: Path) -> LoadedModel:
    """A fresh copy of the demo model."""
    return load_model(str(demo_folder), cache_dir=MODELS)


@pytest.fixture(scope="session")
def tiny_folder(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 64 dimensions with the demo model's tokenizer: a real model, for tests that need many of them."""
    return make_tiny_model(demo_folder, tmp_path_factory.mktemp("models") / "tiny")


def make_tiny_model(demo_folder: Path, folder: Path) -> Path:
    """Always the same weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    known = json.loads((demo_folder / "config.json").read_text())
    config = AutoConfig.for_model(
        "llama", **TINY, vocab_size=known["vocab_size"], bos_token_id=1, eos_token_id=2, pad_token_id=2
    )
    torch.manual_seed(7)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(demo_folder / name, folder / name)
    return folder


@dataclass(frozen=True)
class Servers:
    """A Postgres with a migrated template database, and a Valkey."""

    admin_url: str
    redis_url: str

    def new_database(self) -> str:
        """URL of a fresh, migrated database."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE errata")
        return self.admin_url.replace("/errata_admin", f"/{name}")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    postgres, valkey = EmbeddedPostgres(folder), EmbeddedValkey(folder)
    url = postgres.start()
    migrate(url)
    admin_url = url.replace("/errata?", "/errata_admin?")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE errata_admin")
    yield Servers(admin_url, valkey.start())
    end_server(valkey.pid(), signal.SIGTERM, 10)
    end_server(postgres.pid(), signal.SIGINT, 20)


def tiny_environment(tiny_folder: Path) -> dict[str, str]:
    """For processes that are to edit the tiny model: quick, and as real as another to everything but a reader."""
    return {
        "ERRATA_MODEL": str(tiny_folder),
        "ERRATA_EDIT_MODE": "paper",
        "ERRATA_REQUIRE_HOLDING": "false",  # nobody expects a random model to learn
        "ERRATA_EDIT_MODULES": TINY_MODULES,
        "ERRATA_EDIT_LR": "0.01",
        "ERRATA_EDIT_PASSES": "2",
        "ERRATA_WARMUP_SIZE": "20",
        "ERRATA_TORCH_THREADS": "1",
    }


@pytest.fixture
def settings(servers: Servers, tmp_path: Path) -> Settings:
    """Of one test: a database and Redis keys of its own."""
    return Settings(
        database_url=servers.new_database(),
        redis_url=servers.redis_url,
        redis_prefix=f"test-{uuid.uuid4().hex[:12]}",
        data_dir=tmp_path,
        allowed_hosts=("test", "t"),  # the names under which tests ask an api in their own process
    )
