"""Documents in through Kafka, cited answers out through gRPC, as a user of the command line sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anabranch_client.results import Delta, Finished, Retrieved, Started
from anabranch_testkit.platform import RunningPlatform

pytestmark = [pytest.mark.connected, pytest.mark.slow]

LIBRARY = {
    "hours.md": "# Opening hours\n\nThe reading room opens at nine in the morning. It closes at six in the evening.\n",
    "loans.html": "<html><head><title>Loans</title></head><body><h1>Loans</h1><p>A reader may borrow twelve books at "
    "once.</p><h2>Fines</h2><p>Each day a book is late costs forty cents.</p></body></html>",
    "history.txt": "The library was founded by Ada Example in 1887. A flood destroyed the east wing in 1954.\n",
}


@pytest.fixture(params=["embedded", "weaviate_platform"], ids=["lancedb", "weaviate"])
def platform(request: pytest.FixtureRequest) -> RunningPlatform:
    running: RunningPlatform = request.getfixturevalue(request.param)
    return running


@pytest.fixture
def corpus(unique: Any) -> str:
    name: str = unique("corpus")
    return name


@pytest.fixture
def library(platform: RunningPlatform, corpus: str, tmp_path: Path) -> Path:
    for name, text in LIBRARY.items():
        (tmp_path / name).write_text(text)
    report = platform.json("put", str(tmp_path), "--corpus", corpus, "--wait")
    assert (report["queryable"], report["unchanged"], report["rejected"]) == (3, 0, [])
    return tmp_path


def test_a_question_is_answered_with_a_citation_of_the_document_that_says_so(
    platform: RunningPlatform, corpus: str, library: Path
) -> None:
    answer = platform.json("ask", "How many books may a reader borrow?", "--corpus", corpus)
    assert "twelve" in answer["text"]
    assert not answer["abstained"]
    cited = [citation for citation in answer["citations"] if "twelve books" in citation["text"]]
    assert cited[0]["document_id"] == "loans.html"
    assert cited[0]["end"] - cited[0]["start"] == len(cited[0]["text"])
    assert answer["variant"].startswith("v-")
    assert answer["timings_ms"]["total"] > 0


def test_a_question_nothing_supports_is_abstained_on(platform: RunningPlatform, corpus: str, library: Path) -> None:
    answer = platform.json("ask", "Which enzyme unwinds the double helix of DNA?", "--corpus", corpus)
    assert answer["abstained"]
    assert answer["citations"] == []


def test_search_finds_by_word_and_by_meaning(platform: RunningPlatform, corpus: str, library: Path) -> None:
    by_word = platform.json("search", "flood 1954", "--corpus", corpus, "-k", "3")
    assert by_word["hits"][0]["document_id"] == "history.txt"
    by_meaning = platform.json("search", "penalty for returning something too late", "--corpus", corpus)
    assert by_meaning["hits"][0]["document_id"] == "loans.html"


def test_the_same_documents_again_are_unchanged(platform: RunningPlatform, corpus: str, library: Path) -> None:
    report = platform.json("put", str(library), "--corpus", corpus, "--wait")
    assert (report["queryable"], report["unchanged"], report["rejected"]) == (0, 3, [])


def test_an_update_replaces_what_was_said_and_a_delete_removes_it(
    platform: RunningPlatform, corpus: str, library: Path
) -> None:
    question = "When does the reading room open?"
    assert "nine" in platform.json("ask", question, "--corpus", corpus)["text"]
    (library / "hours.md").write_text("# Opening hours\n\nThe reading room opens at eleven in the morning.\n")
    assert platform.json("put", str(library / "hours.md"), "--corpus", corpus, "--wait")["queryable"] == 1
    updated = platform.json("ask", question, "--corpus", corpus)
    assert "eleven" in updated["text"]
    assert "nine" not in updated["text"]
    platform.json("delete", "hours.md", "--corpus", corpus)
    hits = platform.json("search", question, "--corpus", corpus)["hits"]
    assert "hours.md" not in {hit["document_id"] for hit in hits}


def test_a_stream_starts_before_it_has_passages_and_ends_with_usage(
    platform: RunningPlatform, corpus: str, library: Path
) -> None:
    with platform.client() as client:
        events = list(client.ask_stream("Who founded the library?", corpus=corpus))
    kinds = [type(event) for event in events]
    assert kinds[0] is Started
    assert kinds[1] is Retrieved
    assert kinds[-1] is Finished
    assert "Ada Example" in "".join(event.text for event in events if isinstance(event, Delta))
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.usage.completion_tokens > 0


def test_a_follow_up_in_a_session_is_asked_as_a_question_that_stands_alone(
    platform: RunningPlatform, corpus: str, library: Path
) -> None:
    platform.json("ask", "Who founded the library?", "--corpus", corpus, "--session", corpus)
    answer = platform.json("ask", "And when was it founded?", "--corpus", corpus, "--session", corpus)
    assert "library" in answer["search_query"].lower()
    assert "1887" in answer["text"]


def test_a_corpus_is_rebuilt_under_another_embedding_and_rolled_back_with_queries_going_on(
    platform: RunningPlatform, corpus: str, library: Path
) -> None:
    with platform.client() as client:
        before = {each.corpus: each.embedding_version for each in client.corpora()}[corpus]
        report = platform.json("reindex", "--corpus", corpus, "--to", "fp32", timeout=170)
        assert report["state"] == "swapped"
        assert {each.corpus: each.embedding_version for each in client.corpora()}[corpus] == report["to_version"]
        assert report["to_version"] != before
    assert "twelve" in platform.json("ask", "How many books may a reader borrow?", "--corpus", corpus)["text"]
    rolled_back = platform.json("reindex", "--corpus", corpus, "--rollback", timeout=170)
    assert rolled_back["state"] == "rolled_back"
    assert "twelve" in platform.json("ask", "How many books may a reader borrow?", "--corpus", corpus)["text"]
