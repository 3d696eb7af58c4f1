"""`python known_items.py FOLDER`: a small dataset in BEIR layout.

The documents are paragraphs of the Python language reference that every installation carries. A question is what
somebody types who remembers a passage but not its wording: rarer words of one of its sentences. The right document is
the passage itself (known-item search).
"""

from __future__ import annotations

import json
import pydoc_data.topics
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

__all__ = ["write_known_items"]

SHORTEST, LONGEST = 200, 1_200  # characters of a paragraph
WORDS = 4
"""Remembered of a sentence."""
PER_PASSAGE = 1
SEED = 20


def paragraphs() -> Iterator[tuple[str, str, str]]:
    """Id, chapter and text of every paragraph of prose, each text once."""
    seen = set()
    for chapter, text in sorted(pydoc_data.topics.topics.items()):
        for number, paragraph in enumerate(re.split(r"\n\s*\n", text)):
            body = " ".join(paragraph.split())
            prose = SHORTEST <= len(body) <= LONGEST and "|" not in body and re.search(r"[a-z]\.( |$)", body)
            if prose and body not in seen:
                seen.add(body)
                yield f"{chapter}-{number}", chapter, body


def write_known_items(folder: Path) -> int:
    """Writes corpus.jsonl, queries.jsonl and qrels.tsv into the folder; returns the number of questions."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)  # noqa: S311  not for secrets
    passages = list(paragraphs())
    words = {key: re.findall(r"[a-z]{3,}", body.lower()) for key, _, body in passages}
    spread = Counter(word for found in words.values() for word in set(found))
    documents, queries, judgments = [], [], ["query-id\tcorpus-id\tscore"]
    for key, chapter, body in passages:
        documents.append({"_id": key, "title": chapter, "text": body})
        sentences = [
            one for one in re.split(r"(?<=[a-z]\.) ", body) if len(set(re.findall(r"[a-z]{3,}", one.lower()))) > WORDS
        ]
        for number, sentence in enumerate(rng.sample(sentences, min(PER_PASSAGE, len(sentences)))):
            found = sorted(set(re.findall(r"[a-z]{3,}", sentence.lower())), key=lambda word: (spread[word], word))
            remembered = rng.sample(found[: 2 * WORDS], min(WORDS, len(found)))
            queries.append(
                {"_id": f"{key}-q{number}", "text": f"Where does it say something about {' '.join(remembered)}?"}
            )
            judgments.append(f"{key}-q{number}\t{key}\t1")
    for name, rows in (("corpus.jsonl", documents), ("queries.jsonl", queries)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "qrels.tsv").write_text("\n".join(judgments) + "\n", encoding="utf-8")
    return len(queries)


if __name__ == "__main__":
    print(f"{write_known_items(Path(sys.argv[1]))} questions")
