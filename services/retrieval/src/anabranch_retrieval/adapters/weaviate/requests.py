"""Search requests as Weaviate's gRPC contract has them, and their answers."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from weaviate.proto.v1 import base_pb2, base_search_pb2, search_get_pb2

from anabranch_retrieval.adapters import tokens
from anabranch_retrieval.domain import Scored, Search

VECTOR: Final = "dense"
_ORIGINAL: Final = re.compile(r"Result Set (keyword|vector)[^)]*\) Document \S+ original score (\S+?),")


def hybrid(search: Search, terms: Sequence[str], *, collection: str, tenant: str) -> search_get_pb2.SearchRequest:
    """Both halves, fused on the server by relative score; ids and scores only, since properties cost as much again."""
    request = _request(collection, tenant, search.limit, explain=True)
    request.filters.CopyFrom(_filter(search))
    raw = np.ascontiguousarray(search.vector, dtype="<f4").tobytes()
    request.hybrid_search.CopyFrom(
        base_search_pb2.Hybrid(
            query=" ".join(terms),
            properties=["terms"],
            alpha=search.alpha,
            alpha_param=search.alpha,
            use_alpha_param=True,
            fusion_type=base_search_pb2.Hybrid.FUSION_TYPE_RELATIVE_SCORE,
            targets=base_search_pb2.Targets(target_vectors=[VECTOR]),
            vectors=[base_pb2.Vectors(name=VECTOR, vector_bytes=raw, type=base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32)],
        )
    )
    return request


def by_vectors(
    vectors: Sequence[NDArray[np.float32]], ids: Sequence[str], *, limit: int, collection: str, tenant: str
) -> search_get_pb2.SearchRequest:
    """What is nearest to any of several vectors, among these objects."""
    request = _request(collection, tenant, limit)
    request.filters.CopyFrom(_ids(ids))
    # Two bytes of dimension, then row after row: Weaviate searches for each and joins by the smallest distance.
    packed = struct.pack("<H", vectors[0].size) + np.stack(vectors).astype("<f4").tobytes()
    many = base_pb2.Vectors(name=VECTOR, vector_bytes=packed, type=base_pb2.Vectors.VECTOR_TYPE_MULTI_FP32)
    request.near_vector.CopyFrom(
        base_search_pb2.NearVector(
            targets=base_search_pb2.Targets(target_vectors=[VECTOR]),
            vector_for_targets=[base_search_pb2.VectorForTarget(name=VECTOR, vectors=[many])],
        )
    )
    return request


def by_terms(
    terms: Iterable[str], ids: Sequence[str], *, limit: int, collection: str, tenant: str
) -> search_get_pb2.SearchRequest:
    """What holds any of the terms, among these objects."""
    request = _request(collection, tenant, limit)
    request.filters.CopyFrom(_ids(ids))
    request.bm25_search.CopyFrom(base_search_pb2.BM25(query=" ".join(terms), properties=["terms"]))
    return request


def scored(reply: search_get_pb2.SearchReply) -> list[Scored]:
    """The answer to `hybrid`, best first."""
    found = []
    for result in reply.results:
        of_halves = dict(_ORIGINAL.findall(result.metadata.explain_score))
        found.append(
            Scored(
                chunk_id=result.metadata.id,
                score=result.metadata.score,
                vector_score=_number(of_halves.get("vector")),
                keyword_score=_number(of_halves.get("keyword")),
            )
        )
    return found


def _request(collection: str, tenant: str, limit: int, *, explain: bool = False) -> search_get_pb2.SearchRequest:
    return search_get_pb2.SearchRequest(
        collection=collection,
        tenant=tenant,
        limit=limit,
        uses_123_api=True,
        uses_125_api=True,
        uses_127_api=True,
        metadata=search_get_pb2.MetadataRequest(uuid=True, score=explain, explain_score=explain, distance=not explain),
        properties=search_get_pb2.PropertiesRequest(),
    )


def _filter(search: Search) -> base_pb2.Filters:
    conditions = [_texts("labels", tokens.readers(search.acl), base_pb2.Filters.OPERATOR_CONTAINS_ANY)]
    if search.filters:
        facets = tokens.facets(search.filters)
        conditions.append(_texts("facets", facets, base_pb2.Filters.OPERATOR_CONTAINS_ALL))
    if search.document_ids:
        documents = [tokens.document(one) for one in search.document_ids]
        conditions.append(_texts("document", documents, base_pb2.Filters.OPERATOR_CONTAINS_ANY))
    if len(conditions) == 1:
        return conditions[0]
    return base_pb2.Filters(operator=base_pb2.Filters.OPERATOR_AND, filters=conditions)


def _ids(ids: Sequence[str]) -> base_pb2.Filters:
    return _texts("_id", ids, base_pb2.Filters.OPERATOR_CONTAINS_ANY)


def _texts(name: str, values: Sequence[str], operator: base_pb2.Filters.Operator) -> base_pb2.Filters:
    return base_pb2.Filters(
        operator=operator,
        target=base_pb2.FilterTarget(property=name),
        value_text_array=base_pb2.TextArray(values=values),
    )


def _number(text: str | None) -> float | None:
    return float(text) if text is not None else None
