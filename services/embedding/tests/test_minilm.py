from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import numpy as np
import pytest

from anabranch_embedding.adapters.minilm import MiniLmEncoder, PackagedModel, Quantisation
from anabranch_embedding.adapters.minilm.cache import GraphCache
from anabranch_embedding.adapters.minilm.lanes import Turns
from anabranch_embedding.adapters.minilm.tokens import Vocabulary
from anabranch_embedding.domain import Text
from anabranch_faults import Overloaded

EATING = [Text(body="A man is eating food."), Text(body="A man is eating a piece of bread.")]
SENTENCES = "The Danube rises in Germany. It flows through ten countries. Its delta is in Romania."
SPANS = ((0, 28), (29, 60), (61, 85))


@pytest.fixture(scope="module")
def vocabulary(packaged: PackagedModel) -> Vocabulary:
    return Vocabulary(packaged.tokenizer)


def test_a_prefix_and_its_text_are_read_as_one(vocabulary: Vocabulary) -> None:
    apart = vocabulary.tokenise(Text(prefix="Rivers\nEurope > Danube", body=SENTENCES))
    together = vocabulary.tokenise(Text(body=f"Rivers\nEurope > Danube\n{SENTENCES}"))
    assert apart.ids.tolist() == together.ids.tolist()


def test_a_long_prefix_is_cut_to_48_tokens_and_a_long_text_to_the_window(vocabulary: Vocabulary) -> None:
    tokenised = vocabulary.tokenise(Text(prefix="river " * 100, body="lake " * 1000))
    assert len(tokenised.ids) == 256
    river, lake = (vocabulary.tokenise(Text(body=word)).ids[1] for word in ("river", "lake"))
    assert tokenised.ids.tolist() == [101, *[river] * 48, *[lake] * 206, 102]


def test_sentences_are_tokens_of_the_body_only(vocabulary: Vocabulary) -> None:
    tokenised = vocabulary.tokenise(Text(prefix="Rivers", body=SENTENCES, sentences=SPANS))
    assert tokenised.sentences[0][0] == 2  # after the beginning and the prefix's one token
    assert tokenised.sentences[-1][1] == len(tokenised.ids) - 1
    alone = vocabulary.tokenise(Text(body=SENTENCES[29:60])).ids[1:-1]
    start, end = tokenised.sentences[1]
    assert tokenised.ids[start:end].tolist() == alone.tolist()


def test_offsets_count_code_points(vocabulary: Vocabulary) -> None:
    body = "Grüße 🌊🌊. Zweiter Satz."
    tokenised = vocabulary.tokenise(Text(body=body, sentences=((0, 9), (10, len(body)))))
    alone = vocabulary.tokenise(Text(body="Zweiter Satz.")).ids[1:-1]
    start, end = tokenised.sentences[1]
    assert tokenised.ids[start:end].tolist() == alone.tolist()


def test_sentences_past_the_window_have_no_tokens(vocabulary: Vocabulary) -> None:
    body = "lake " * 300 + "end."
    (_, after) = vocabulary.tokenise(Text(body=body, sentences=((0, 1500), (1500, 1504)))).sentences
    assert after[0] == after[1]


async def test_fp32_gives_the_published_similarity(fp32: MiniLmEncoder) -> None:
    one, other = await fp32.encode(EATING, urgent=True)
    assert float(one.vector @ other.vector) == pytest.approx(0.7553, abs=5e-5)


async def test_int8_stays_close_to_fp32(fp32: MiniLmEncoder, int8: MiniLmEncoder) -> None:
    texts = [*EATING, Text(body=SENTENCES, prefix="Rivers"), Text(body="x")]
    exact = await fp32.encode(texts, urgent=False)
    quantised = await int8.encode(texts, urgent=False)
    for one, other in zip(exact, quantised, strict=True):
        assert float(one.vector @ other.vector) > 0.98
        assert float(np.linalg.norm(other.vector)) == pytest.approx(1, abs=1e-5)


async def test_padding_beside_longer_texts_changes_nothing(fp32: MiniLmEncoder) -> None:
    texts = [Text(body="river " * n, sentences=((0, 12),)) for n in range(20, 29)]
    together = await fp32.encode(texts, urgent=False)
    for text, one in zip(texts, together, strict=True):
        (alone,) = await fp32.encode([text], urgent=True)
        assert float(alone.vector @ one.vector) > 0.999999
        assert np.abs(alone.sentences.astype(int) - one.sentences).max() <= 1


async def test_both_lanes_give_encodings_in_the_order_of_the_texts(int8: MiniLmEncoder) -> None:
    texts = [Text(body=" ".join(["lake"] * n)) for n in (90, 3, 200, 40, 7)]
    for urgent in (True, False):
        assert [one.tokens for one in await int8.encode(texts, urgent=urgent)] == [92, 5, 202, 42, 9]


async def test_sentence_vectors_are_near_those_of_the_sentences_alone(int8: MiniLmEncoder) -> None:
    text = Text(body=SENTENCES, prefix="Rivers", sentences=SPANS)
    (whole,) = await int8.encode([text], urgent=True)
    assert whole.sentences.shape == (3, 384)
    assert whole.sentences.dtype == np.int8
    (query,) = await int8.encode([Text(body="Through how many countries does it flow?")], urgent=True)
    assert int(np.argmax(whole.sentences @ query.vector)) == 1


async def test_a_sentence_past_the_window_has_a_row_of_zeros(int8: MiniLmEncoder) -> None:
    (one,) = await int8.encode([Text(body="lake " * 300 + "end.", sentences=((0, 1500), (1500, 1504)))], urgent=True)
    assert one.sentences[0].any()
    assert not one.sentences[1].any()


async def test_a_full_queue_of_documents_does_not_hold_up_queries(packaged: PackagedModel, graphs: GraphCache) -> None:
    turns = Turns(threads=1, limit=3)
    encoder = MiniLmEncoder(model=packaged, quantisation="int8", cache=graphs, turns=turns)
    await encoder.load()
    bulk = asyncio.create_task(encoder.encode([Text(body=SENTENCES)] * 200, urgent=False))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await encoder.encode([Text(body=SENTENCES)], urgent=False)
    assert len(await encoder.encode(EATING, urgent=True)) == 2
    assert not bulk.done()
    await bulk
    await encoder.close()
    turns.close()


async def test_concurrent_first_calls_load_the_model_once(
    packaged: PackagedModel, turns: Turns, tmp_path: Path
) -> None:
    class Counting(GraphCache):
        loads = 0

        def graph(self, model: PackagedModel, quantisation: Quantisation) -> bytes:
            self.loads += 1
            return super().graph(model, quantisation)

    cache = Counting(tmp_path)
    encoder = MiniLmEncoder(model=packaged, quantisation="int8", cache=cache, turns=turns)
    await asyncio.gather(*(encoder.encode(EATING, urgent=True) for _ in range(5)))
    assert cache.loads == 1
    await encoder.close()


def test_a_graph_is_built_once_and_a_damaged_one_is_built_anew(packaged: PackagedModel, tmp_path: Path) -> None:
    cache = GraphCache(tmp_path / "models")
    built = cache.graph(packaged, "int8")
    (file,) = (tmp_path / "models").iterdir()
    stamp = file.stat().st_mtime_ns
    assert cache.graph(packaged, "int8") == built
    assert file.stat().st_mtime_ns == stamp
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    assert cache.graph(packaged, "int8") == built
    assert [one.name for one in (tmp_path / "models").iterdir()] == [file.name]
    file.write_bytes(b"")
    assert cache.graph(packaged, "int8") == built


def _data() -> Path:
    folder = Path(os.environ.get("ANABRANCH_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not (folder / "qa_beerqa").is_dir():
        pytest.skip("needs qa_beerqa in the folder that ANABRANCH_DATA names")
    return folder / "qa_beerqa"


@pytest.mark.slow
async def test_int8_finds_paragraphs_as_well_as_it_should(packaged: PackagedModel, graphs: GraphCache) -> None:
    folder = _data()
    turns = Turns(threads=2, limit=10_000)
    encoder = MiniLmEncoder(model=packaged, quantisation="int8", cache=graphs, turns=turns)
    documents = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    matrix = np.array(
        [
            one.vector
            for one in await encoder.encode([Text(body=d["text"], prefix=d["title"]) for d in documents], urgent=False)
        ]
    )
    asked = await encoder.encode([Text(body=query["text"]) for query in queries], urgent=False)
    place = {document["_id"]: index for index, document in enumerate(documents)}
    scores = []
    for query, encoding in zip(queries, asked, strict=True):
        gold = {place[one] for one in query["paragraph_ids"]}
        best = np.argsort(-(matrix @ encoding.vector))[:10]
        gain = sum(1 / np.log2(rank + 2) for rank, index in enumerate(best) if index in gold)
        scores.append(gain / sum(1 / np.log2(rank + 2) for rank in range(min(10, len(gold)))))
    await encoder.close()
    turns.close()
    assert float(np.mean(scores)) > 0.87
