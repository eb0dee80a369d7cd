"""Settings from the environment: every variable is read, a bad value has a name, a secret is not shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from app.settings import Settings, setting_names, unknown_variables

# A value other than the default for each variable, and what it is read as.
VALUES: dict[str, tuple[str, Any]] = {
    "FOOTNOTE_HOME": ("/data", Path("/data")),
    "FOOTNOTE_SERVER_HOST": ("0.0.0.0", "0.0.0.0"),
    "FOOTNOTE_SERVER_PORT": ("9000", 9000),
    "FOOTNOTE_SERVER_MAX_UPLOAD_BYTES": ("10", 10),
    "FOOTNOTE_SERVER_HOSTS": ('["docs.example"]', ("docs.example",)),
    "FOOTNOTE_SERVER_MAX_CONCURRENT": ("3", 3),
    "FOOTNOTE_SERVER_MAX_WAITING": ("0", 0),
    "FOOTNOTE_SERVER_SHUTDOWN_SECONDS": ("3", 3),
    "FOOTNOTE_DATABASE_URL": ("postgresql://footnote@db/footnote", "postgresql://footnote@db/footnote"),
    "FOOTNOTE_DATABASE_POOL_SIZE": ("2", 2),
    "FOOTNOTE_ENCODER_MODEL": ("BAAI/bge-small-en-v1.5", "BAAI/bge-small-en-v1.5"),
    "FOOTNOTE_ENCODER_PRECISION": ("fp32", "fp32"),
    "FOOTNOTE_ENCODER_MAX_TOKENS": ("128", 128),
    "FOOTNOTE_ENCODER_DIM": ("64", 64),
    "FOOTNOTE_ENCODER_LAYERS": ("3", 3),
    "FOOTNOTE_ENCODER_ROTATION": ("pca", "pca"),
    "FOOTNOTE_ENCODER_QUERY_PROMPT": ("query: ", "query: "),
    "FOOTNOTE_ENCODER_DOCUMENT_PROMPT": ("passage: ", "passage: "),
    "FOOTNOTE_ENCODER_DEVICE": ("cuda:bf16", "cuda:bf16"),
    "FOOTNOTE_ENCODER_N_THREADS": ("1", 1),
    "FOOTNOTE_ENCODER_KEEP_TOKENS": ("false", False),
    "FOOTNOTE_VECTORS_DEVICE": ("cuda:1", "cuda:1"),
    "FOOTNOTE_SPARSE_MODEL": ("splade", "splade"),
    "FOOTNOTE_SPARSE_MAX_TERMS": ("128", 128),
    "FOOTNOTE_SPARSE_DEVICE": ("cpu", "cpu"),
    "FOOTNOTE_CHUNKER_MAX_TOKENS": ("64", 64),
    "FOOTNOTE_CHUNKER_OVERLAP_TOKENS": ("0", 0),
    "FOOTNOTE_LOADER_MEMORY_BYTES": ("67108864", 67108864),
    "FOOTNOTE_LOADER_SECONDS": ("1.5", 1.5),
    "FOOTNOTE_LOADER_DECOMPRESSED_BYTES": ("1", 1),
    "FOOTNOTE_WORKER_BATCH_DOCUMENTS": ("1", 1),
    "FOOTNOTE_WORKER_BATCH_BYTES": ("1", 1),
    "FOOTNOTE_WORKER_LEASE_SECONDS": ("0.5", 0.5),
    "FOOTNOTE_WORKER_POLL_SECONDS": ("0.1", 0.1),
    "FOOTNOTE_WORKER_MAX_ATTEMPTS": ("1", 1),
    "FOOTNOTE_WORKER_LOADERS": ("4", 4),
    "FOOTNOTE_WORKER_NICE": ("0", 0),
    "FOOTNOTE_SEARCH_MODE": ("bm25", "bm25"),
    "FOOTNOTE_SEARCH_ALPHA": ("0.7", 0.7),
    "FOOTNOTE_SEARCH_RRF_K": ("10", 10),
    "FOOTNOTE_SEARCH_CANDIDATE_K": ("50", 50),
    "FOOTNOTE_SEARCH_FUNNEL_DIM": ("32", 32),
    "FOOTNOTE_SEARCH_FUNNEL_STEPS": ("halving", "halving"),
    "FOOTNOTE_TREE_SUMMARIZER": ("extractive", "extractive"),
    "FOOTNOTE_TREE_SUMMARY_TOKENS": ("200", 200),
    "FOOTNOTE_TREE_CLUSTER_TOKENS": ("1000", 1000),
    "FOOTNOTE_TREE_LONG_DOCUMENT": ("20", 20),
    "FOOTNOTE_TREE_FOLLOW": ("false", False),
    "FOOTNOTE_SEARCH_TREE_TOKENS": ("1000", 1000),
    "FOOTNOTE_SEARCH_TREE_LEAVES": ("5", 5),
    "FOOTNOTE_SEARCH_TREE_WEIGHT": ("0.3", 0.3),
    "FOOTNOTE_SEARCH_TREE_K": ("10", 10),
    "FOOTNOTE_SEARCH_RERANKER": ("late", "late"),
    "FOOTNOTE_SEARCH_RERANK_K": ("20", 20),
    "FOOTNOTE_RERANK_MODEL": ("models/mine", "models/mine"),
    "FOOTNOTE_RERANK_DEVICE": ("cuda:bf16", "cuda:bf16"),
    "FOOTNOTE_RERANK_MAX_TOKENS": ("256", 256),
    "FOOTNOTE_RERANK_SECONDS": ("0.5", 0.5),
    "FOOTNOTE_RERANK_LLM_SECONDS": ("5", 5.0),
    "FOOTNOTE_RERANK_LLM_WINDOW": ("12", 12),
    "FOOTNOTE_RERANK_LLM_STEP": ("6", 6),
    "FOOTNOTE_TRANSFORM_SECONDS": ("2.5", 2.5),
    "FOOTNOTE_TRANSFORM_MAX_TOKENS": ("64", 64),
    "FOOTNOTE_TRANSFORM_PASSAGES": ("2", 2),
    "FOOTNOTE_TRANSFORM_PARAPHRASES": ("5", 5),
    "FOOTNOTE_TRANSFORM_QUESTIONS": ("2", 2),
    "FOOTNOTE_TRANSFORM_SEED": ("7", 7),
    "FOOTNOTE_EXPANSION_MODEL": ("neighbours", "neighbours"),
    "FOOTNOTE_EXPANSION_QUESTIONS": ("2", 2),
    "FOOTNOTE_EXPANSION_DROP": ("0.1", 0.1),
    "FOOTNOTE_EXPANSION_SECONDS": ("9", 9.0),
    "FOOTNOTE_ANSWER_TOP_K": ("3", 3),
    "FOOTNOTE_ANSWER_GENERATOR": ("extractive", "extractive"),
    "FOOTNOTE_ANSWER_MIN_CONFIDENCE": ("0.25", 0.25),
    "FOOTNOTE_ANSWER_MAX_SENTENCES": ("1", 1),
    "FOOTNOTE_LLM_BASE_URL": (" http://127.0.0.1:8000/v1 ", "http://127.0.0.1:8000/v1"),
    "FOOTNOTE_LLM_MODEL": ("llama", "llama"),
    "FOOTNOTE_LLM_API_KEY": ("sk-secret", SecretStr("sk-secret")),
    "FOOTNOTE_LLM_TIMEOUT_SECONDS": ("5", 5.0),
    "FOOTNOTE_LLM_MAX_TOKENS": ("100", 100),
    "FOOTNOTE_LLM_CONTEXT_TOKENS": ("500", 500),
    "FOOTNOTE_LLM_TEMPERATURE": ("0.3", 0.3),
    "FOOTNOTE_LLM_FALLBACK": ("false", False),
    "FOOTNOTE_LLM_MAX_PARALLEL": ("2", 2),
    "FOOTNOTE_LLM_CACHE_ENTRIES": ("0", 0),
    "FOOTNOTE_SERVER_MEMORY_BYTES": ("536870912", 536870912),
    "FOOTNOTE_SERVER_IDEMPOTENCY_HOURS": ("1", 1),
    "FOOTNOTE_INDEX_KEEP_VERSIONS": ("0", 0),
    "FOOTNOTE_INDEX_MAX_RECALL_DROP": ("0.1", 0.1),
    "FOOTNOTE_WORKER_MEMORY_BYTES": ("536870912", 536870912),
    "FOOTNOTE_SYNC_MAX_DELETE": ("0.25", 0.25),
    "FOOTNOTE_SYNC_SETTLE_SECONDS": ("0.5", 0.5),
    "FOOTNOTE_SYNC_POLL_SECONDS": ("2", 2.0),
    "FOOTNOTE_LOG_LEVEL": ("DEBUG", "DEBUG"),
    "FOOTNOTE_LOG_FORMAT": ("text", "text"),
}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("FOOTNOTE_")]:
        monkeypatch.delenv(name)


def value_of(settings: Settings, name: str) -> Any:
    if name == "FOOTNOTE_HOME":
        return settings.home
    area, _, field = name.removeprefix("FOOTNOTE_").lower().partition("_")
    return getattr(getattr(settings, area), field)


def test_the_list_above_is_complete() -> None:
    assert set(VALUES) == set(setting_names())
    assert all(setting_names().values()), "each says what it sets"


@pytest.mark.parametrize("name", VALUES)
def test_each_variable_sets_its_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given, expected = VALUES[name]
    assert value_of(Settings(), name) != expected, "the test would prove nothing"
    monkeypatch.setenv(name, given)
    assert value_of(Settings(), name) == expected
    assert unknown_variables() == []


def test_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (given, _) in VALUES.items():
        monkeypatch.setenv(name, given)
    settings = Settings()
    assert {name: value_of(settings, name) for name in VALUES} == {
        name: expected for name, (_, expected) in VALUES.items()
    }


@pytest.mark.parametrize("name", VALUES)
def test_an_empty_variable_is_one_that_is_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `${NAME:-}` in a compose file gives it, and as the manual says of an empty default."""
    default = value_of(Settings(), name)
    monkeypatch.setenv(name, "")
    assert value_of(Settings(), name) == default


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FOOTNOTE_SERVER_PORT", "70000"),
        ("FOOTNOTE_SERVER_PORT", "eighty"),
        ("FOOTNOTE_SEARCH_ALPHA", "1.01"),
        ("FOOTNOTE_SEARCH_ALPHA", "nan"),
        ("FOOTNOTE_SEARCH_MODE", "magic"),
        ("FOOTNOTE_CHUNKER_MAX_TOKENS", "15"),
        ("FOOTNOTE_WORKER_LEASE_SECONDS", "0"),
        ("FOOTNOTE_WORKER_LEASE_SECONDS", "inf"),
        ("FOOTNOTE_WORKER_NICE", "20"),
        ("FOOTNOTE_LLM_FALLBACK", "maybe"),
        ("FOOTNOTE_LOG_LEVEL", "LOUD"),
        ("FOOTNOTE_SEARCH_ALHPA", "0.5"),
    ],
)
def test_a_bad_value_is_refused_where_it_is(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as error:
        Settings()
    (item,) = error.value.errors()
    assert "FOOTNOTE_" + "_".join(str(part) for part in item["loc"]).upper() == name


def test_misspelt_variables_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTNOTE_SERCH_ALPHA", "0.5")
    monkeypatch.setenv("footnote_serverport", "1")
    monkeypatch.setenv("FOOTNOTE_SEARCH_ALPHA", "0.5")
    monkeypatch.setenv("FOOTNOTES", "not ours")
    assert unknown_variables() == ["FOOTNOTE_SERCH_ALPHA", "footnote_serverport"]


def test_a_secret_is_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTNOTE_LLM_API_KEY", "sk-secret")
    settings = Settings()
    assert settings.llm.api_key is not None
    assert settings.llm.api_key.get_secret_value() == "sk-secret"
    for text in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.llm)):
        assert "sk-secret" not in text


def test_a_bad_value_beside_a_secret_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTNOTE_LLM_API_KEY", "sk-secret")
    monkeypatch.setenv("FOOTNOTE_LLM_MAX_TOKENS", "1")
    with pytest.raises(ValidationError) as error:
        Settings()
    assert "sk-secret" not in "".join(item["msg"] for item in error.value.errors())


def test_settings_do_not_change() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.home = Path("/elsewhere")  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.search.alpha = 0.1  # type: ignore[misc]


def test_folders_and_database_are_below_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOOTNOTE_HOME", "~/notes")
    monkeypatch.setenv("HOME", str(tmp_path))
    home = tmp_path / "notes"
    settings = Settings()
    assert settings.home == home
    folders = (settings.files_dir, settings.indexes_dir, settings.models_dir)
    assert folders == (home / "files", home / "indexes", home / "models")
    assert settings.database_url == f"sqlite:///{home}/footnote.db"
    monkeypatch.chdir(tmp_path)
    assert Settings(home=Path("here")).home == tmp_path / "here"
