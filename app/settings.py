"""Settings: one frozen tree, read once from the environment (`FOOTNOTE_<AREA>_<NAME>`) at the start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from retrievers.types import Mode

MEBIBYTE = 1024 * 1024


class Area(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ServerSettings(Area):
    """The HTTP service."""

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    hosts: tuple[str, ...] | None = Field(
        None, description="Host names answered to, as a JSON list; empty: `localhost` on loopback, else any"
    )
    max_upload_bytes: int = Field(256 * MEBIBYTE, ge=1, description="Largest file accepted")
    max_concurrent: int = Field(8, ge=1, description="Searches and answers worked on at the same time")
    max_waiting: int = Field(64, ge=0, description="Requests that may wait for a place; more get 503 at once")
    memory_bytes: int = Field(
        3072 * MEBIBYTE, ge=256 * MEBIBYTE, description="Memory ceiling of the service, mapped files apart"
    )
    idempotency_hours: float = Field(
        24.0, gt=0, le=8760, description="How long the answer of a POST is kept under its Idempotency-Key"
    )
    shutdown_seconds: int = Field(
        10, ge=0, description="Time given to running requests when the service stops"
    )

    @property
    def max_json_bytes(self) -> int:
        """Largest text accepted as JSON, which, unlike a file, is held in memory."""
        return min(self.max_upload_bytes, self.memory_bytes // 64)


class DatabaseSettings(Area):
    """Where the truth is kept."""

    url: str = Field("", description="SQLAlchemy URL; empty means SQLite in the data folder")
    pool_size: int = Field(16, ge=1, description="Connections kept open by one process")


class EncoderSettings(Area):
    """The model that makes vectors for new index versions; a version keeps the one it was built with."""

    model: str = Field("default", description="`default`, or any sentence-transformers name or folder")
    precision: Literal["int8", "fp32"] = Field("int8", description="Precision of the default model")
    max_tokens: Annotated[int | None, Field(ge=8)] = Field(
        None, description="Token window; empty: the model's"
    )
    dim: Annotated[int | None, Field(ge=1)] = Field(None, description="Leading dimensions kept; empty: all")
    layers: Annotated[int | None, Field(ge=1)] = Field(
        None, description="First transformer layers used; empty: all"
    )
    rotation: str = Field(
        "none", description="Turns vectors before `dim` cuts them: `none`, `pca`, or a trained one's path"
    )
    query_prompt: str | None = Field(None, description="Put before a query; empty: the model's own")
    document_prompt: str | None = Field(None, description="Put before a chunk; empty: the model's own")
    device: str = Field(
        "auto", description="`auto`, `cpu`, `cuda` or `cuda:bf16`, for sentence-transformers models"
    )
    n_threads: Annotated[int | None, Field(ge=1)] = Field(None, description="Threads; empty: all cores")
    keep_tokens: bool = Field(True, description="Keep token vectors in new index versions")


class VectorsSettings(Area):
    """Where the vectors of an index are searched."""

    device: str = Field(
        "cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="`cpu`, or `cuda` for an exact search on a GPU"
    )


class SparseSettings(Area):
    """Learned sparse vectors of new index versions, beside the dense ones."""

    model: str = Field("", description="Name or folder of a SparseEncoder model; empty: no sparse vectors")
    max_terms: Annotated[int | None, Field(ge=1)] = Field(
        None, description="Terms kept of a chunk, those of most weight; empty: all the model gives"
    )
    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:bf16`")


class ChunkerSettings(Area):
    """How text is cut for new index versions."""

    max_tokens: Annotated[int | None, Field(ge=16)] = Field(
        None, description="Longest chunk, headings included; empty: chosen to fit the encoder's window"
    )
    overlap_tokens: Annotated[int | None, Field(ge=0)] = Field(
        None, description="Tokens repeated from the chunk before; empty: the chunker's default"
    )


class IndexSettings(Area):
    """Index versions: how many are kept, and which may be served."""

    keep_versions: int = Field(2, ge=0, description="Ready versions kept beside the one that is served")
    max_recall_drop: float = Field(
        0.02, ge=0, le=1, description="How far Recall@10 on golden questions may drop at an activation"
    )


class LoaderSettings(Area):
    """Limits of the child process that reads a file."""

    memory_bytes: int = Field(1024 * MEBIBYTE, ge=64 * MEBIBYTE, description="Memory ceiling")
    seconds: float = Field(
        60.0, gt=0, description="Processor time for one file; each MiB of it adds a second"
    )
    decompressed_bytes: int = Field(
        512 * MEBIBYTE, ge=1, description="Limit on what an archive may unpack to"
    )


class WorkerSettings(Area):
    """The process that ingests."""

    batch_documents: int = Field(128, ge=1, description="Documents taken together")
    batch_bytes: int = Field(16 * MEBIBYTE, ge=1, description="Bytes of files taken together")
    lease_seconds: float = Field(
        30.0, gt=0, description="A job returns to the queue when not renewed this long"
    )
    poll_seconds: float = Field(0.5, gt=0, description="Pause before the queue is looked at again")
    max_attempts: int = Field(5, ge=1, description="Times a job is tried")
    loaders: int = Field(2, ge=1, description="Files read at the same time")
    memory_bytes: int = Field(
        2048 * MEBIBYTE, ge=256 * MEBIBYTE, description="Memory ceiling of a worker, loaders apart"
    )
    nice: int = Field(10, ge=0, le=19, description="How far the worker gives way to searches")

    @property
    def claimed_bytes(self) -> int:
        """Bytes of files taken together, by what is set and what the ceiling allows for."""
        return min(self.batch_bytes, self.memory_bytes // 64)


class SyncSettings(Area):
    """`footnote sync`."""

    max_delete: float = Field(
        0.5, ge=0, le=1, description="Share of the synced documents that may be deleted without asking"
    )
    settle_seconds: float = Field(
        2.0, ge=0, description="With --watch, a file that changed more recently is waited for"
    )
    poll_seconds: float = Field(
        10.0, gt=0, description="With --watch, pause between looks where changes are not announced"
    )


class TreeSettings(Area):
    """Trees of summaries; a tree that is there keeps its nodes until it is built again."""

    summarizer: Literal["auto", "extractive", "llm"] = Field(
        "auto", description="What writes summaries; `auto` takes the language model when one is set"
    )
    summary_tokens: int = Field(100, ge=16, le=2000, description="Longest summary")
    cluster_tokens: int = Field(
        1500, ge=256, description="Longest text that one summary is made of; larger clusters are split"
    )
    long_document: int = Field(8, ge=2, description="A document of so many chunks has a tree of its own")
    follow: bool = Field(True, description="Update a tree when documents have changed")


class SearchSettings(Area):
    """Retrieval."""

    mode: Mode = Field("auto", description="Mode of a search that names none")
    alpha: float = Field(0.8, ge=0, le=1, description="Weight of the dense score in the convex combination")
    rrf_k: int = Field(60, ge=1, description="Constant of reciprocal rank fusion")
    candidate_k: int = Field(100, ge=1, description="Chunks fetched from each retriever before fusion")
    funnel_dim: int = Field(64, ge=1, description="First dimensions that the mode `funnel` begins with")
    funnel_steps: Literal["two", "halving"] = Field(
        "two", description="Steps of the mode `funnel`: `two`, or `halving` the shortlist each time"
    )
    tree_tokens: int = Field(
        2000, ge=0, description="Tokens of what competes in the mode tree, and of the summaries of a walk"
    )
    tree_leaves: int = Field(3, ge=1, le=100, description="Chunks that a summary brings")
    tree_weight: float = Field(0.5, ge=0, le=1, description="Weight of a summary in the score of its chunks")
    tree_k: int = Field(5, ge=1, le=1000, description="Nodes of a layer from which a traversal goes on")
    reranker: str = Field("", description="Reranker of a search that asks for one without its name")
    rerank_k: int = Field(50, ge=1, le=1000, description="Passages given to a reranker")


class RerankSettings(Area):
    """Ordering the best passages anew."""

    model: str = Field("", description="Cross-encoder: any sentence-transformers name or folder; empty: none")
    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:bf16`, for the cross-encoder")
    max_tokens: Annotated[int | None, Field(ge=16)] = Field(
        None, description="Token window of the cross-encoder; empty: the model's"
    )
    seconds: float = Field(
        2.0, gt=0, le=600, description="Time for the cross-encoder; passages it did not reach stay below"
    )
    llm_seconds: float = Field(
        20.0, gt=0, le=600, description="Time for the language model; late, the former order stays"
    )
    llm_window: int = Field(20, ge=2, le=100, description="Passages shown to the language model at once")
    llm_step: int = Field(10, ge=1, le=100, description="How far the window moves; at most the window")

    @model_validator(mode="after")
    def steps_within_window(self) -> RerankSettings:
        if self.llm_step > self.llm_window:
            raise ValueError("llm_step must not exceed llm_window")
        return self


class TransformSettings(Area):
    """Transforming a query by a language model before it is searched with."""

    seconds: float = Field(10.0, gt=0, le=600, description="Longest time for a transformation, all calls")
    max_tokens: int = Field(256, ge=16, description="Longest text of one call")
    passages: int = Field(4, ge=1, le=32, description="Passages made up for `hyde`")
    paraphrases: int = Field(3, ge=1, le=16, description="Other wordings for `multi_query`")
    questions: int = Field(4, ge=1, le=16, description="Questions that `decompose` makes at most")
    seed: int = Field(0, ge=0, description="Seed of the first call; each further call adds one")


class ExpansionSettings(Area):
    """Questions and words that chunks are found by beside their own text, made at ingest."""

    model: Literal["auto", "llm", "neighbours"] = Field(
        "auto", description="What writes expansions; `auto` takes the language model when one is set"
    )
    questions: int = Field(5, ge=1, le=20, description="Questions asked for about a chunk")
    drop: float = Field(0.3, ge=0, lt=1, description="Share of the questions dropped, those least near")
    seconds: float = Field(60.0, gt=0, le=600, description="Longest time for the questions about a chunk")


class AnswerSettings(Area):
    """Answering."""

    top_k: int = Field(8, ge=1, le=100, description="Passages an answer may rest on")
    generator: Literal["auto", "extractive", "llm"] = Field(
        "auto", description="`auto` takes the language model when one is set"
    )
    min_confidence: Annotated[float | None, Field(ge=0, le=1)] = Field(
        None, description="Below this an answer is refused; empty: the calibrated threshold"
    )
    max_sentences: int = Field(3, ge=1, le=20, description="Sentences an extractive answer quotes at most")


class LlmSettings(Area):
    """A language model behind an OpenAI-compatible endpoint. None is needed."""

    base_url: str | None = Field(None, description="Address up to and including /v1; empty: no model")
    model: str = Field("", description="Model name sent with each request")
    api_key: SecretStr | None = Field(None, description="Key sent as bearer token")
    timeout_seconds: float = Field(60.0, gt=0, description="Longest time for one answer")
    max_tokens: int = Field(800, ge=16, description="Longest answer")
    context_tokens: int = Field(3000, ge=128, description="Tokens of passages put in the prompt")
    temperature: float = Field(0.0, ge=0, le=2, description="Sampling temperature")
    fallback: bool = Field(True, description="Answer with quotations when the model cannot be reached")
    max_parallel: int = Field(8, ge=1, description="Requests at once, those that write answers apart")
    cache_entries: int = Field(512, ge=0, description="Texts of the model kept in memory, answers apart")

    @field_validator("base_url", "model")
    @classmethod
    def stripped(cls, value: str | None) -> str | None:
        return value.strip() or (None if value is None else "") if value else value


class LogSettings(Area):
    """What the service writes to standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level written")
    format: Literal["json", "text"] = Field("json", description="One JSON object a line, or plain text")


class Settings(BaseSettings):
    """Every setting; `FOOTNOTE_SEARCH_ALPHA=0.7` sets `search.alpha`."""

    model_config = SettingsConfigDict(
        env_prefix="FOOTNOTE_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,  # so that `${NAME:-}` in a compose file sets nothing
        frozen=True,
        extra="forbid",
    )

    home: Path = Field(Path("~/.local/share/footnote"), description="The data folder")
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    encoder: EncoderSettings = EncoderSettings()
    vectors: VectorsSettings = VectorsSettings()
    sparse: SparseSettings = SparseSettings()
    chunker: ChunkerSettings = ChunkerSettings()
    index: IndexSettings = IndexSettings()
    loader: LoaderSettings = LoaderSettings()
    worker: WorkerSettings = WorkerSettings()
    sync: SyncSettings = SyncSettings()
    search: SearchSettings = SearchSettings()
    rerank: RerankSettings = RerankSettings()
    transform: TransformSettings = TransformSettings()
    tree: TreeSettings = TreeSettings()
    expansion: ExpansionSettings = ExpansionSettings()
    answer: AnswerSettings = AnswerSettings()
    llm: LlmSettings = LlmSettings()
    log: LogSettings = LogSettings()

    @field_validator("home")
    @classmethod
    def absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.home / 'footnote.db'}"

    @property
    def files_dir(self) -> Path:
        """The content-addressed store of original files."""
        return self.home / "files"

    @property
    def indexes_dir(self) -> Path:
        return self.home / "indexes"

    @property
    def models_dir(self) -> Path:
        """Exported models."""
        return self.home / "models"


def setting_names() -> dict[str, str]:
    """Every environment variable and what it sets, in the order of the tree.

    >>> setting_names()["FOOTNOTE_SEARCH_RRF_K"]
    'Constant of reciprocal rank fusion'
    """
    names = {"FOOTNOTE_HOME": Settings.model_fields["home"].description or ""}
    for area, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Area):
            for name, inner in field.annotation.model_fields.items():
                names[f"FOOTNOTE_{area}_{name}".upper()] = inner.description or ""
    return names


def unknown_variables() -> list[str]:
    """Variables that begin with FOOTNOTE_ and set nothing: most likely misspelt."""
    known = set(setting_names())
    return sorted(
        name for name in os.environ if name.upper().startswith("FOOTNOTE_") and name.upper() not in known
    )
