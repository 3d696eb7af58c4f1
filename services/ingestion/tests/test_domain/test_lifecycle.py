from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from anabranch_ingestion.domain import lifecycle
from anabranch_ingestion.domain.documents import (
    BodyKind,
    Change,
    Document,
    DocumentKey,
    Provenance,
    Rejection,
    Sent,
    State,
)
from anabranch_ingestion.domain.lifecycle import Indexed, Verdict
from anabranch_ingestion.domain.refusals import Reason, Refused

KEY = DocumentKey("acme", "wiki", "d")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATE = timedelta(minutes=10)


def change(**fields: object) -> Change:
    given = {"key": KEY, "event_id": "e", "record_key": str(KEY), "body": BodyKind.TEXT, "text": "t", **fields}
    return Change(**given)  # type: ignore[arg-type]  # a test names the fields it means


def document(**fields: object) -> Document:
    base = Document(key=KEY, seen=5, version=5, state=State.QUERYABLE, request_hash="same", sent_at=NOW)
    return replace(base, **fields)  # type: ignore[arg-type]  # as above


def sent(version: int, state: State = State.ACCEPTED, *, deleted: bool = False) -> Sent:
    return Sent(
        key=KEY, version=version, event_id=f"e{version}", state=state, deleted=deleted, chunk_count=1, sent_at=NOW
    )


def judge(known: Document, one: Change, request_hash: str = "other") -> Verdict:
    return lifecycle.judge(known, one, request_hash=request_hash, now=NOW, overdue=LATE)


@pytest.mark.parametrize(
    ("known", "one", "request_hash", "verdict"),
    [
        (Document(key=KEY), change(), "x", Verdict.TAKE),
        (document(), change(version=4), "other", Verdict.SUPERSEDED),
        (document(), change(version=4), "same", Verdict.SUPERSEDED),
        (document(), change(version=6), "other", Verdict.TAKE),
        (document(), change(version=6), "same", Verdict.UNCHANGED),
        (document(), change(), "same", Verdict.UNCHANGED),
        (document(), change(), "other", Verdict.TAKE),
        (document(), change(version=5), "same", Verdict.UNCHANGED),
        (document(state=State.REJECTED), change(version=5), "same", Verdict.TAKE),
        (document(state=State.ACCEPTED), change(), "same", Verdict.UNCHANGED),
        (document(state=State.ACCEPTED, sent_at=NOW - 2 * LATE), change(), "same", Verdict.TAKE),
        (document(deleted=True, state=State.DELETED), change(), "same", Verdict.TAKE),
        (document(deleted=True, state=State.DELETED), change(version=4), "other", Verdict.SUPERSEDED),
        (document(), change(deleted=True, body=BodyKind.NONE), "", Verdict.TAKE),
        (document(), change(deleted=True, body=BodyKind.NONE, version=4), "", Verdict.SUPERSEDED),
        (document(deleted=True, state=State.DELETED), change(deleted=True, body=BodyKind.NONE), "", Verdict.GONE),
        (document(deleted=True, state=State.ACCEPTED), change(deleted=True, body=BodyKind.NONE), "", Verdict.TAKE),
    ],
)
def test_a_change_is_judged_by_its_version_and_its_content(
    known: Document, one: Change, request_hash: str, verdict: Verdict
) -> None:
    assert judge(known, one, request_hash) is verdict


def test_a_version_that_was_used_for_other_content_is_refused() -> None:
    with pytest.raises(Refused, match="each change needs a higher one") as refused:
        judge(document(), change(version=5))
    assert (refused.value.why, refused.value.field) == (Reason.INVALID_FIELD, "version")


def test_a_version_that_becomes_visible_answers_itself_and_those_it_overtook() -> None:
    event = Indexed(key=KEY, version=5, deleted=False, index_generation=9, chunk_count=3)
    versions = [sent(3, State.QUERYABLE), sent(4), sent(5)]
    outcome = lifecycle.indexed(document(state=State.ACCEPTED), versions, event, now=NOW)
    assert [(s.version, s.state, s.caused_by) for s in outcome.statuses] == [
        (4, State.SUPERSEDED, "e4"),
        (5, State.QUERYABLE, "e5"),
    ]
    assert outcome.statuses[1].index_generation == 9
    assert (outcome.document.state, outcome.document.live) == (State.QUERYABLE, 5)


def test_an_older_version_that_becomes_visible_leaves_the_newer_one_waiting() -> None:
    event = Indexed(key=KEY, version=4, deleted=False, index_generation=1, chunk_count=1)
    outcome = lifecycle.indexed(document(state=State.ACCEPTED), [sent(4), sent(5)], event, now=NOW)
    assert [(s.version, s.state) for s in outcome.statuses] == [(4, State.QUERYABLE)]
    assert (outcome.document.state, outcome.document.live) == (State.ACCEPTED, 4)


def test_a_repeated_index_event_says_nothing_new() -> None:
    event = Indexed(key=KEY, version=5, deleted=False, index_generation=2, chunk_count=1)
    outcome = lifecycle.indexed(document(live=5), [sent(5, State.QUERYABLE)], event, now=NOW)
    assert (outcome.statuses, outcome.sent) == ((), ())


def test_a_deletion_that_is_confirmed_ends_the_document() -> None:
    event = Indexed(key=KEY, version=6, deleted=True, index_generation=3, chunk_count=0)
    known = document(seen=6, version=6, live=5, deleted=True, state=State.ACCEPTED)
    outcome = lifecycle.indexed(known, [sent(6, deleted=True)], event, now=NOW)
    assert [s.state for s in outcome.statuses] == [State.DELETED]
    assert (outcome.document.state, outcome.document.live) == (State.DELETED, 0)


def test_dead_letters_answer_a_version_once_and_a_replay_makes_it_queryable_after_all() -> None:
    known = document(state=State.ACCEPTED, live=4)
    first = lifecycle.dead(known, [sent(5)], version=5, problem="embedding gave up", now=NOW)
    assert first.statuses[0].rejection is not None
    assert first.statuses[0].rejection.reason is Reason.DEAD_LETTERED
    assert (first.document.state, first.document.live) == (State.REJECTED, 4)
    again = lifecycle.dead(first.document, list(first.sent), version=5, problem="again", now=NOW)
    assert again.statuses == ()
    event = Indexed(key=KEY, version=5, deleted=False, index_generation=7, chunk_count=1)
    replayed = lifecycle.indexed(first.document, list(first.sent), event, now=NOW)
    assert [s.state for s in replayed.statuses] == [State.QUERYABLE]


def test_a_refused_change_leaves_the_version_before_as_it_was() -> None:
    known = document(provenance=Provenance(parser="p"))
    rejection = Rejection(reason=Reason.NO_TEXT, detail="empty")
    after = lifecycle.rejected(known, change(version=9), rejection, now=NOW)
    assert replace(after, last=None) == known
    assert after.last is not None
    assert (after.last.version, after.last.state) == (9, State.REJECTED)
