from __future__ import annotations

from pathlib import Path

import pytest

from anabranch_cli import sources as module
from anabranch_cli.sources import sources
from anabranch_faults import Invalid


def test_files_of_a_folder_are_named_by_their_path_below_it_and_hidden_ones_stay_out(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("b/two.md", "a.txt", ".git/config", ".hidden"):
        (tmp_path / name).write_text("text")
    assert [source.document_id for source in sources([tmp_path])] == ["a.txt", "b/two.md"]


def test_rows_of_a_corpus_are_documents_of_their_own(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"_id": "x", "title": "T", "text": "One."}\n\n{"_id": "y", "text": "Two."}\n')
    first, second = (source.message(tenant="t", corpus="c") for source in sources([corpus]))
    assert (first.document_id, first.title, first.text) == ("x", "T", "One.")
    assert (second.document_id, second.text) == ("y", "Two.")


def test_jsonl_that_is_no_corpus_is_a_file_like_any_other(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"level": "info"}\n')
    (source,) = sources([log])
    assert source.message(tenant="t", corpus="c").content == log.read_bytes()


def test_a_file_over_the_limit_is_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_BYTES", 10)
    (tmp_path / "big.txt").write_text("more than ten bytes")
    (source,) = sources([tmp_path / "big.txt"])
    with pytest.raises(Invalid, match="by reference"):
        source.message(tenant="t", corpus="c")


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="nowhere"):
        sources([tmp_path / "nowhere"])
    with pytest.raises(Invalid, match="no document"):
        sources([tmp_path])
