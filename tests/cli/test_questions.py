"""`footnote search`, `footnote ask` and `footnote eval`."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrievers.modes import MODES
from tests.cli.conftest import Footnote
from tests.llm_server import LlmServer, Reply
from tests.unit.retrievers_evaluation.collections import write_collection


@pytest.mark.parametrize("mode", ["auto", "bm25", "dense", "hybrid", "rrf", "rank_bm25", "late"])
def test_each_mode_finds_the_page(library: Footnote, mode: str) -> None:
    found = library.json("search", "when does the lease end", "--mode", mode)
    assert found["mode"] == mode
    assert found["hits"][0]["source"].endswith("leases.md")


def test_hits_are_printed_with_where_they_are(library: Footnote) -> None:
    done = library("search", "warm the pot", "-k", 1)
    assert done.out.startswith("1. ")
    assert "tea.txt, characters 0–" in done.out
    assert "Warm the pot before the leaves go in. Green tea" in done.out
    assert "2. " not in done.out


@pytest.mark.parametrize("command", ["search", "ask", "documents", "golden", "run"])
def test_what_others_wrote_does_not_command_the_terminal(
    footnote: Footnote, tmp_path: Path, command: str
) -> None:
    page = tmp_path / "tea\x1b[31m\u202e.md"
    page.write_text("Warm the pot before the leaves go in.\n")
    footnote("ingest", page, "--title", "Tea\x1b]0;owned\x07\x9b2J")
    footnote("golden", "add", "when to warm\x1b[2J the pot", "--source", page)
    commands = {
        "search": ("search", "warm the pot"),
        "ask": ("ask", "what to warm before the leaves go in"),
        "documents": ("documents", "list"),
        "golden": ("golden", "list"),
        "run": ("golden", "run"),
    }
    done = footnote(*commands[command])
    assert not set("\x1b\x07\x9b\u202e") & set(done.out + done.err)
    assert "\N{REPLACEMENT CHARACTER}" in done.out


def test_a_filter_chooses_the_documents(library: Footnote) -> None:
    found = library.json("search", "lease", "--filter", '{"source": {"$like": "%fusion.md"}}')
    assert {Path(hit["source"]).name for hit in found["hits"]} == {"fusion.md"}
    assert library.json("search", "lease", "--filter", '{"kind": "book"}')["hits"] == []
    assert library("search", "lease", "--filter", '{"kind": "book"}').out == "Nothing found.\n"


def test_an_answer_is_printed_with_its_footnotes(library: Footnote) -> None:
    question = "when does a job return to the queue"
    done = library("ask", question)
    answer = library.json("ask", question)
    assert not answer["abstained"]
    assert done.out.startswith(answer["answer"])
    for citation in answer["citations"]:
        assert f"[{citation['n']}]" in answer["answer"]
        assert f"characters {citation['start']}–{citation['end']}" in done.out
        assert f"“{citation['quote']}”" in done.out
    assert "Confidence 0." in done.out or "Confidence 1." in done.out
    assert done.err == ""


def test_a_question_without_an_answer_is_refused_with_a_reason(library: Footnote, footnote: Footnote) -> None:
    assert footnote("ask", "anything").out.startswith("No answer: No passage was found")
    done = library("ask", "zebra migration statistics Antarctica")
    answer = library.json("ask", "zebra migration statistics Antarctica")
    assert (answer["abstained"], answer["answer"], answer["citations"]) == (True, "", [])
    assert done.out.startswith("No answer: ")


def test_an_answer_rests_on_as_many_passages_as_asked_for(library: Footnote) -> None:
    assert len(library.json("ask", "the lease", "-k", 1)["hits"]) == 1
    assert library.json("ask", "lease", "--filter", '{"kind": "book"}')["reason"] == "no_passages"


def test_evaluation_of_a_folder(footnote: Footnote, tmp_path: Path) -> None:
    folder = write_collection(tmp_path / "fruit")
    results = footnote.json("eval", folder, "--mode", "bm25", "--mode", "hybrid")["results"]
    assert [(item["dataset"], item["mode"]) for item in results] == [("fruit", "bm25"), ("fruit", "hybrid")]
    for item in results:
        assert set(item["metrics"]) >= {"ndcg@10", "recall@10", "recall@100", "mrr@10"}
        assert all(0 <= value <= 1 for value in item["metrics"].values())
        assert set(item["latency_ms"]) >= {"p50", "p95"}
        assert item["n_queries"] == 3
    assert results[0]["metrics"]["ndcg@10"] > 0.5
    done = footnote("eval", folder, "--limit", 1)
    assert "fruit" in done.out
    assert (
        f"{footnote.json('eval', folder, '--limit', 1)['results'][0]['metrics']['ndcg@10']:.4f}" in done.out
    )


def test_an_evaluation_measures_the_search_that_is_set(
    footnote: Footnote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_collection(tmp_path / "fruit")

    def measured(*options: str) -> dict:
        (result,) = footnote.json("eval", folder, "--mode", "hybrid", *options)["results"]
        return result

    plain = measured()
    assert plain["settings"]["tuning"]["alpha"] == 0.8
    monkeypatch.setenv("FOOTNOTE_SEARCH_ALPHA", "0")
    monkeypatch.setenv("FOOTNOTE_SEARCH_TREE_K", "7")
    by_words = measured()
    assert by_words["settings"]["tuning"]["alpha"] == 0
    assert by_words["settings"]["tuning"]["tree"]["k"] == 7
    assert not plain["settings"]["exclude_own_id"]
    assert measured("--exclude-own-id")["settings"]["exclude_own_id"]


def test_without_a_mode_that_of_searches_is_measured(
    footnote: Footnote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_collection(tmp_path / "fruit")
    assert [item["mode"] for item in footnote.json("eval", folder)["results"]] == ["auto"]
    monkeypatch.setenv("FOOTNOTE_SEARCH_MODE", "bm25")
    assert [item["mode"] for item in footnote.json("eval", folder)["results"]] == ["bm25"]


def test_evaluation_in_all_modes_and_of_another_split(footnote: Footnote, tmp_path: Path) -> None:
    folder = write_collection(
        tmp_path / "fruit", splits={"dev": {"q1": {"d1": 1}}, "test": {"q2": {"d2": 1}}}
    )
    results = footnote.json("eval", folder, "--mode", "all", "--split", "dev", "--limit", 1)["results"]
    lacking = {"sparse", "questions", "tree", "tree_traversal"}  # no model is set, too few chunks for a tree
    assert [item["mode"] for item in results] == [mode for mode in MODES if mode not in lacking]
    assert {item["split"] for item in results} == {"dev"}


def test_a_folder_that_is_no_collection_fails_by_name(footnote: Footnote, tmp_path: Path) -> None:
    done = footnote("eval", tmp_path, code=1)
    assert done.err.splitlines()[-1].startswith("error: ")


def test_a_transformed_search_says_what_it_searched_with(
    library: Footnote, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LlmServer([Reply(text="1. who renews the lease"), Reply(status=401)]) as server:
        monkeypatch.setenv("FOOTNOTE_LLM_BASE_URL", server.base_url)
        monkeypatch.setenv("FOOTNOTE_LLM_MODEL", "tiny")
        done = library("search", "when does the lease end", "--transform", "multi_query")
        failed = library("ask", "when does a job return to the queue", "--transform", "step_back")
    assert done.out.startswith("also searched: who renews the lease\n1. ")
    assert "step_back: llm_unavailable:" in failed.out


@pytest.mark.parametrize("command", ["search", "ask"])
def test_a_transformation_without_a_model_says_what_to_set(library: Footnote, command: str) -> None:
    done = library(command, "lease", "--transform", "hyde", code=1)
    assert "(llm_not_configured)" in done.err
    assert "FOOTNOTE_LLM_BASE_URL" in done.err


def test_an_evaluation_counts_how_often_a_transformation_fell_back(
    footnote: Footnote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_collection(tmp_path / "small")
    with LlmServer([Reply(text="apples\ntrees"), Reply(text="apples\ntrees"), Reply(status=401)]) as server:
        monkeypatch.setenv("FOOTNOTE_LLM_BASE_URL", server.base_url)
        monkeypatch.setenv("FOOTNOTE_LLM_MODEL", "tiny")
        arguments = ["eval", folder, "--mode", "bm25", "--transform", "multi_query"]
        (result,) = footnote.json(*arguments)["results"]
    assert result["settings"]["transform"] == "multi_query"
    assert list(result["settings"]["transform_notes"].values()) == [1]


def test_an_evaluation_writes_the_questions_that_are_asked_for_by_name(
    footnote: Footnote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for the collection: the second time none is written."""
    folder = write_collection(tmp_path / "small")
    assert "(llm_not_configured)" in footnote("eval", folder, "--mode", "questions", code=1).err
    with LlmServer([Reply(text="Which fruit is red?\nWhat do trees bear?")]) as server:
        monkeypatch.setenv("FOOTNOTE_LLM_BASE_URL", server.base_url)
        monkeypatch.setenv("FOOTNOTE_LLM_MODEL", "tiny")
        arguments = ["eval", folder, "--mode", "dense", "--mode", "questions"]
        plain, asked = footnote.json(*arguments)["results"]
        n_asked = len(server.requests)
        assert n_asked == asked["n_chunks"] == plain["n_chunks"]
        assert footnote.json(*arguments)["results"][1]["metrics"] == asked["metrics"]
        everything = footnote.json("eval", folder, "--mode", "all")["results"]
        assert len(server.requests) == n_asked
    assert "questions" not in [item["mode"] for item in everything]


def test_an_evaluated_tree_is_grown_as_is_set(
    footnote: Footnote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("river boat", "bread oven", "engine valve")
    documents = tuple(
        (f"d{n}", f"t{n}", f"The {kinds[n % 3]} of part {n} is old. It is kept.") for n in range(18)
    )
    folder = write_collection(tmp_path / "small", documents=documents)
    monkeypatch.setenv("FOOTNOTE_TREE_SUMMARIZER", "llm")
    assert "(llm_not_configured)" in footnote("eval", folder, "--mode", "tree", code=1).err
    with LlmServer([Reply(text="Parts that are old.")]) as server:
        monkeypatch.setenv("FOOTNOTE_LLM_BASE_URL", server.base_url)
        monkeypatch.setenv("FOOTNOTE_LLM_MODEL", "tiny")
        footnote.json("eval", folder, "--mode", "tree")
        n_asked = len(server.requests)
        assert n_asked > 0
        footnote.json("eval", folder, "--mode", "tree", "--mode", "tree_traversal")
        footnote.json("eval", folder, "--mode", "all")  # by sentences: no model is asked unless by name
        assert len(server.requests) == n_asked
    assert len(list((footnote.home / "evaluation").rglob("children.json"))) == 2


def test_modes_are_compared_and_written_down(footnote: Footnote, tmp_path: Path) -> None:
    folders = [write_collection(tmp_path / name) for name in ("fruit", "more")]
    out = tmp_path / "out"
    arguments = ("eval", *folders, "-m", "bm25", "--fuse", "bm25,dense", "--fusion", "dbsf", "--out", out)
    found = footnote.json(*arguments)
    assert [one["mode"] for one in found["results"]] == ["bm25", "dbsf(bm25,dense)"] * 2
    assert found["comparison"]["baseline"] == "bm25"
    assert {path.name for path in out.iterdir()} == {"results.json", "results.md", "plot.svg"}
    shown = footnote(*arguments[:-2], "--baseline", "dbsf(bm25,dense)").out
    assert "ndcg@10 against dbsf(bm25,dense):" in shown
    assert shown.count("mean") == 3
    assert "--baseline" in footnote("eval", folders[0], "--baseline", "dense", code=2).err
    assert "--fuse" in footnote("eval", folders[0], "--fuse", "bm25,magic", code=2).err
    assert "--fusion" in footnote("search", "tea", "--fusion", "rrf", code=2).err


def test_a_fusion_is_searched_with(library: Footnote) -> None:
    fusion = ("--fuse", "bm25,dense", "--fusion", "convex", "--weights", "bm25=0.3,dense=0.7")
    found = library.json("search", "when does the lease end", *fusion)
    assert found["mode"] == "fused"
    assert found["hits"][0]["source"].endswith("leases.md")
    ranks = library.json("search", "lease", "--fuse", "bm25,dense", "--fusion", "rrf:1")["hits"][0]
    assert ranks["score"] == pytest.approx(1 / 2 + 1 / 2)  # first in both lists
    for wrong in ("rrf:0", "rrf:few", "convex:5", "magic:5"):
        library("search", "lease", "--fuse", "bm25,dense", "--fusion", wrong, code=2)
    library("search", "lease", "--fuse", "bm25", "--mode", "dense", code=2)
    library("search", "lease", "--fuse", "bm25,dense", "--fusion", "dbsf", "--weights", "bm25=x", code=2)


def test_chunks_are_expanded_counted_found_and_left(footnote: Footnote, tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "queue.txt").write_text("A job returns to the queue when its lease ends.")
    (pages / "lock.txt").write_text("The reaper frees a job whose lease was lost.")
    footnote("ingest", pages)
    assert "(mode_unavailable)" in footnote("search", "reaper", "--mode", "expanded", code=1).err
    assert "2 chunks lack it; neighbours-10-20" in footnote("expand", "--dry-run").out
    assert footnote.json("expand")["n_nodes"] == 2
    assert footnote.json("expand", "--dry-run")["n_chunks"] == 0
    found = footnote.json("search", "reaper", "--mode", "expanded")
    assert [Path(hit["source"]).name for hit in found["hits"]] == ["lock.txt", "queue.txt"]
    assert set(found["hits"][0]["scores"]) == {"bm25", "expansion"}
    assert footnote.json("expand", "--remove")["n_removed"] == 2
    assert "(llm_not_configured)" in footnote("expand", "--kind", "questions", code=1).err
