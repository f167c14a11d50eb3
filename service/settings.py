"""Every setting and every environment variable, in one place. Prefix ERRATA_, except DATABASE_URL and REDIS_URL."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from limits import parse_many
from pydantic import AfterValidator, AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

FACTS = Path(__file__).parent / "facts"
WithBraces = Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")]
CommaSeparated = Annotated[tuple[str, ...], NoDecode]


def _rates(text: str) -> str:
    """The text itself. Raises ValueError for what `limits` does not read, and for a rate that lets nothing through."""
    if text and not all(rate.amount for rate in parse_many(text)):
        raise ValueError("a rate of 0 would refuse everything; leave it empty for no limit")
    return text


def _networks(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """The addresses themselves. Raises ValueError for what is neither an address, nor a network, nor *."""
    for each in addresses:
        if each != "*":
            ip_network(each)
    return addresses


Rates = Annotated[str, AfterValidator(_rates)]


class Settings(BaseSettings):
    """Read from the environment. Names carry their unit."""

    model_config = SettingsConfigDict(env_prefix="ERRATA_", env_file=None, extra="ignore", frozen=True, populate_by_name=True)

    # Where things are
    data_dir: Path = Field(Path(".errata"), description="Embedded servers, objects, unpacked models, log and pid files.")
    database_url: str = Field(
        "", validation_alias=AliasChoices("DATABASE_URL", "ERRATA_DATABASE_URL"), description="Postgres; empty: embedded."
    )
    redis_url: str = Field(
        "", validation_alias=AliasChoices("REDIS_URL", "ERRATA_REDIS_URL"), description="Redis or Valkey; empty: embedded."
    )
    redis_prefix: str = Field("errata", pattern=r"^[A-Za-z0-9_-]{1,40}$", description="First part of every Redis key.")
    object_dir: Path | None = Field(None, description="Update factors and statistics; default: objects in the data folder.")
    model_cache_dir: Path | None = Field(None, description="Unpacked models; default: models in the data folder.")

    # The api
    api_host: str = "127.0.0.1"
    api_port: int = Field(8321, ge=1, le=65535)
    published_host: str = Field(
        "", description="Where a container's port is published; keys are asked for unless it is loopback. Default: api_host."
    )
    allowed_hosts: CommaSeparated = Field(
        (),
        description="Names in the header Host that are answered besides loopback's and api_host; * stands for anything. Where "
        "keys are asked for and this is empty, any: no page that a browser is misled to has a key.",
    )
    cors_origins: CommaSeparated = Field(
        (), description='Sites whose pages may use the api: "https://chat.example.com", or *. Empty: those of its own address.'
    )
    trusted_proxies: Annotated[CommaSeparated, AfterValidator(_networks)] = Field(
        (),
        description="Addresses or networks whose X-Forwarded-For is believed, or *; rates count by address.",
    )
    require_keys: bool = Field(False, description="Ask for API keys on loopback too; elsewhere they always are.")
    api_key: str = Field("", description="What the command line shows.", repr=False)
    server_url: str = Field("", description="Where the command line finds the api; empty: this machine, api_port.")
    rate_limit_generate: Rates = Field(
        "", description='Questions by API key, or by address where no keys are asked for: "20/second;600/minute". Empty: any.'
    )
    rate_limit_edits: Rates = Field("", description="The same for requests that change the ledger; a batch is one request.")
    max_concurrent_per_key: int = Field(
        64, ge=0, description="Requests for answers that one API key may have under way in one api process; 0: any."
    )
    max_body_bytes: int = Field(4 * 1024 * 1024, gt=0)
    max_prompt_chars: int = Field(4000, gt=0)
    max_target_chars: int = Field(1000, gt=0)
    max_target_bytes: int = Field(1000, gt=0, description="Of a target in UTF-8, where a character may be up to four bytes.")
    max_edits_per_request: int = Field(1000, gt=0)
    max_queued_edits: int = Field(
        20_000, gt=0, description="Edits waiting or being applied; beyond it POST /edits answers 429."
    )
    max_queued_edits_per_key: int = Field(5_000, gt=0, description="The same for one API key.")
    max_edit_bytes: int = Field(16_384, gt=0, description="UTF-8 of all texts of one edit, rephrases and unrelated included.")
    max_waiting_operations: int = Field(1_000, gt=0, description="Operations waiting or under way; beyond it 429.")
    max_waiting_operations_per_key: int = Field(100, gt=0, description="The same for one API key; of rebuilds one.")
    replaces: Literal["own", "any"] = Field(
        "own", description="Whose facts an API key with edit alone may replace: its own, or anybody's."
    )
    reading_is_open: bool = Field(False, description="Any API key may read the ledger, not only those with read or rollback.")
    max_prompt_tokens: int = Field(4096, gt=0, description="Tokens of one question, whatever its form.")
    max_new_tokens: int = Field(512, gt=0, description="Upper limit of max_tokens of one generation.")
    max_waiting_generations: int = Field(256, gt=0, description="Generations waiting for a worker; beyond it 429.")
    max_waiting_generations_per_key: int = Field(64, gt=0, description="The same for one API key.")
    max_running_per_key: int = Field(
        16, gt=0, description="Generations of one API key that are with the workers at once; the others wait for their turn."
    )
    max_choices: int = Field(
        32, gt=0, description="Prompts of one request to /v1, answers to each (n), and of all these how many at once."
    )
    generate_timeout_s: float = Field(120.0, gt=0, description="A question's deadline; the model stops working on it then.")

    # The model and how it is edited
    model: str = Field("demo", description='"demo", a folder, a .gguf file, "org/name" or "org/name:file.gguf".')
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    torch_threads: int = Field(
        0, ge=0, description="0: OMP_NUM_THREADS, or the cores of this process's affinity, hyperthreads not counted, and quota."
    )
    edit_mode: Literal["scoped", "paper"] = Field(
        "scoped", description="scoped: each edit in force where its question is asked; paper: whole weights, as published."
    )
    profile_file: Path | None = Field(
        None, description="scoped: what `errata calibrate` wrote; default: what it wrote to the models folder for this model."
    )
    update_blocks: CommaSeparated = Field(
        (), description="scoped: modules whose outputs are updated; empty: the profile's, or by depth."
    )
    update_step: float | None = Field(
        None, gt=0, description="scoped: of a layer's median output norm; default: the profile's, or 1."
    )
    update_confidence: float = Field(0.95, gt=0, lt=1, description="scoped: how likely every token of an answer is to be.")
    updates_kept_mb: int = Field(256, gt=0, description="scoped: memory for the updates in use.")
    gate_threshold: float = Field(
        0.60, gt=0, lt=1, description="scoped: cosine from which a question about a subject asks what its edit answers."
    )
    chat_wording: WithBraces = Field("{}", description='What a chat answer says, "{}" being the target.')
    require_holding: bool = Field(True, description="An edit that the model does not answer with fails. Not in paper mode.")
    algorithm: Literal["stableedit", "ultraedit"] = Field("stableedit", description="paper.")
    edit_modules: CommaSeparated = Field((), description="paper: module names; empty: the model's preset.")
    edit_lr: float | None = Field(None, gt=0, description="paper.")
    edit_ridge: float | None = Field(None, gt=0, description="paper.")
    edit_formats: CommaSeparated = Field((), description="scoped: plain, chat; empty: all that the model has.")
    edit_passes: int = Field(20, ge=1, le=100, description="scoped: steps on one edit at most.")
    max_update_norm: float | None = Field(None, gt=0)
    warmup_facts: Path = FACTS / "warmup.jsonl"
    warmup_size: int = Field(100, ge=1, description="How many of the warm-up facts to use.")

    # The worker
    batch_size: int = Field(50, ge=1, le=1000)
    batch_linger_s: float = Field(0.05, ge=0, description="How long the oldest edit waits for others to join its batch.")
    max_attempts: int = Field(
        10, ge=1, description="Times that an edit alone may end its worker before it fails; it waits longer after each."
    )
    batch_limit_s: float = Field(
        1800.0, gt=0, description="Time of the model that a batch may take, after which it is halved; an edit alone fails then."
    )
    checkpoint_every: int = Field(
        20, ge=1, description="Revisions from one whole state to the next: a restart goes on from it."
    )
    rollback_window: int = Field(200, ge=1, description="Revisions back that a rollback can reach; older objects are removed.")
    prune_every: int = Field(20, ge=1, description="Revisions from one removal of old objects to the next.")
    prune_grace_s: float = Field(3600.0, ge=0, description="No object younger than this is removed.")
    invariants_interval_s: float = Field(60.0, gt=0, description="How often the writer checks the ledger's invariants.")
    sweep_interval_s: float = Field(2.0, gt=0, description="How often the ledger is asked although nobody rang.")
    lease_ttl_s: float = Field(10.0, gt=0)
    max_running: int = Field(32, ge=1, description="Answers under way at once.")
    kept_tokens: int = Field(
        32_768, ge=1, description="Cache of attention: answers under way × the longest one's tokens, at most."
    )
    prefill_tokens: int = Field(128, ge=1, description="Of new questions, read between two tokens of the answers under way.")
    edit_share: float = Field(
        0.33,
        gt=0,
        le=1,
        description="Of the model's time, what editing takes while anybody is asking; a token takes 1 / (1 - share) as long.",
    )
    drain_limit_s: float = Field(
        2.0,
        ge=0,
        description="paper: how long a new revision waits for answers under way; a longer one ends on the new weights.",
    )
    worker_role: Literal["writer", "reader"] = Field(
        "writer", description="writer: may take the lease and edit; reader: follows the ledger and answers."
    )
    worker_metrics_host: str = "127.0.0.1"
    worker_metrics_port: int = Field(9321, ge=0, le=65535, description="0: none.")
    worker_name: str = Field("", description="How this worker signs the lease; default: host and pid.")

    # All processes
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "text"

    @field_validator(
        "allowed_hosts", "cors_origins", "trusted_proxies", "edit_modules", "edit_formats", "update_blocks", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def warmup_is_applied(self) -> bool:
        """As the papers do; scoped edits need none."""
        return self.edit_mode == "paper"

    @property
    def keys_required(self) -> bool:
        """Whoever can reach the api over a network could edit the model: there is no switching it off."""
        host = self.published_host or self.api_host
        return self.require_keys or not (host in ("localhost", "::1") or host.startswith("127."))

    @property
    def answered_hosts(self) -> tuple[str, ...]:
        """Names under which the api answers besides loopback's."""
        if self.keys_required:
            return self.allowed_hosts or ("*",)
        return tuple(filter(None, (self.api_host, self.published_host, *self.allowed_hosts)))

    @property
    def objects(self) -> Path:
        return self.object_dir or self.data_dir / "objects"

    @property
    def models(self) -> Path:
        return self.model_cache_dir or self.data_dir / "models"

    @property
    def api_url(self) -> str:
        if self.server_url:
            return self.server_url.rstrip("/")
        host = "127.0.0.1" if self.api_host in ("0.0.0.0", "::") else self.api_host
        return f"http://{host}:{self.api_port}"
