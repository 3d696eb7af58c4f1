"""From opinions to data sets of words: which of two answers is better, and what would have been right."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from anabranch_faults import Invalid
from anabranch_training.domain.opinions import Answered, Opinion, Said
from anabranch_training.domain.runs import DatasetKind

__all__ = ["TextDataset", "TextRow", "build_text_dataset"]

_FEWEST: Final = 10
_GOOD: Final = 0.75
_BAD: Final = 0.25
_MOST_OF_A_QUESTION: Final = 8
"""Pairs of one question that judgments may make: one popular question must not be the whole data set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRow:
    """A better answer and, in preferences, a worse one. `votes`: people for it less people against it."""

    served: Answered
    chosen: str
    rejected: str = ""
    sources: tuple[str, ...]
    votes: int = 1
    about: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDataset:
    """What is learned from, and how it came about.

    `rows` and `held_out` share no question and no document that an answer is about.
    """

    kind: DatasetKind
    rows: tuple[TextRow, ...]
    held_out: tuple[TextRow, ...]
    counts: Mapping[str, int]
    sources: Mapping[str, int]
    first: datetime
    last: datetime


@dataclass(slots=True)
class _Pair:
    """Votes for one answer over another."""

    served: Answered
    better: str
    worse: str
    users: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    about: set[str] = field(default_factory=set)


def build_text_dataset(
    opinions: Sequence[Opinion],
    *,
    kind: DatasetKind,
    per_user_cap: int = 50,
    seed: int = 0,
    held_out_share: float = 0.1,
) -> TextDataset:
    """Makes the data set; the same opinions in any order and the same seed make the same one.

    A correction is better than the answer it corrects; the preferred one of two answers to the same question is better;
    and so is an answer that everyone called good than one to the same question that everyone called bad. Beyond
    `per_user_cap` a person's opinions are left out, chosen by lot. Where people disagree the majority holds; a tie
    teaches nothing. Raises Invalid with reason TOO_FEW for under 10 rows.
    """
    capped = _capped(sorted(opinions, key=lambda one: one.feedback_id), cap=per_user_cap, seed=seed)
    dropped: Counter[str] = Counter(dropped_by_cap=len(opinions) - len(capped))
    if kind is DatasetKind.SFT:
        rows = _corrections(capped)
    else:
        rows = _decided([*_said(capped, dropped), *_judged(capped)], dropped)
    if len(rows) < _FEWEST:
        raise Invalid(
            f"makes {len(rows)} rows of the kind {kind.value}; at least {_FEWEST} are needed",
            field="opinions",
            reason="TOO_FEW",
        )
    inside, outside = _split(rows, seed=seed, share=held_out_share)
    used = [one for one in capped if kind is DatasetKind.PREFERENCE or one.said is Said.CORRECTION]
    return TextDataset(
        kind=kind,
        rows=tuple(inside),
        held_out=tuple(outside),
        counts={
            "given": len(opinions),
            "opinions": len(used),
            "users": len({one.user for one in used}),
            "questions": len({row.served.key for row in rows}),
            "documents": len({name for row in rows for name in row.about}),
            "dropped_as_leak": len(rows) - len(inside) - len(outside),
            **{name: dropped[name] for name in sorted(dropped)},
        },
        sources=dict(sorted(Counter(one.source for one in used).items())),
        first=min(one.at for one in used),
        last=max(one.at for one in used),
    )


def _capped(opinions: Sequence[Opinion], *, cap: int, seed: int) -> list[Opinion]:
    by_user: dict[str, list[Opinion]] = defaultdict(list)
    for one in opinions:
        by_user[one.user].append(one)
    return [
        one
        for user in sorted(by_user)
        for one in sorted(by_user[user], key=lambda one: _lot(seed, one.feedback_id))[:cap]
    ]


def _corrections(opinions: Iterable[Opinion]) -> list[TextRow]:
    found: dict[tuple[str, str], TextRow] = {}
    people: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in sorted(opinions, key=lambda one: one.feedback_id):
        if one.said is not Said.CORRECTION:
            continue
        place = (one.answer.key, _folded(one.correction))
        people[place].add(one.user)
        found.setdefault(
            place,
            TextRow(
                served=one.answer,
                chosen=one.correction.strip(),
                sources=(one.source,),
                about=tuple(sorted(one.answer.about)),
            ),
        )
    return [
        TextRow(
            served=row.served,
            chosen=row.chosen,
            sources=row.sources,
            votes=len(people[place]),
            about=row.about,
        )
        for place, row in sorted(found.items())
    ]


def _said(opinions: Iterable[Opinion], dropped: Counter[str]) -> Iterable[_Pair]:
    """Pairs that people named themselves."""
    for one in opinions:
        if one.said is Said.CORRECTION:
            better, worse, served, about = one.correction.strip(), one.answer.text, one.answer, one.answer.about
        elif one.said is Said.PREFERENCE and one.other is not None:
            if one.other.key != one.answer.key:
                dropped["dropped_as_other_question"] += 1
                continue
            served, loser = (one.other, one.answer) if one.prefers_other else (one.answer, one.other)
            better, worse, about = served.text, loser.text, served.about | loser.about
        else:
            continue
        if _folded(better) == _folded(worse):
            dropped["dropped_as_same_answer"] += 1
            continue
        yield _Pair(served, better, worse, {one.user}, {one.source}, set(about))


def _judged(opinions: Iterable[Opinion]) -> Iterable[_Pair]:
    """Pairs of answers to the same question, one of which everyone called good and the other bad."""
    questions: dict[str, dict[str, list[Opinion]]] = defaultdict(lambda: defaultdict(list))
    for one in opinions:
        if one.said is Said.JUDGED:
            questions[one.answer.key][_folded(one.answer.text)].append(one)
    for key in sorted(questions):
        answers = sorted(questions[key].items())
        good = [said for _, said in answers if all(one.value >= _GOOD for one in said)]
        bad = [said for _, said in answers if all(one.value <= _BAD for one in said)]
        pairs = [(liked, disliked) for liked in good for disliked in bad]
        pairs.sort(key=lambda pair: -min(len(pair[0]), len(pair[1])))
        for liked, disliked in pairs[:_MOST_OF_A_QUESTION]:
            first, second = (min(said, key=lambda one: one.feedback_id).answer for said in (liked, disliked))
            both = (*liked, *disliked)
            yield _Pair(
                first,
                first.text,
                second.text,
                {one.user for one in both},
                {one.source for one in both},
                set(first.about | second.about),
            )


def _decided(pairs: Iterable[_Pair], dropped: Counter[str]) -> list[TextRow]:
    """One row for each two answers, in the direction most people gave."""
    found: dict[tuple[str, str, str], _Pair] = {}
    for pair in pairs:
        place = (pair.served.key, _folded(pair.better), _folded(pair.worse))
        if place in found:
            found[place].users |= pair.users
            found[place].sources |= pair.sources
            found[place].about |= pair.about
        else:
            found[place] = pair
    rows = []
    for place, pair in sorted(found.items()):
        against = found.get((place[0], place[2], place[1]))
        votes = len(pair.users) - (len(against.users) if against else 0)
        if votes > 0:
            rows.append(
                TextRow(
                    served=pair.served,
                    chosen=pair.better,
                    rejected=pair.worse,
                    sources=tuple(sorted(pair.sources)),
                    votes=votes,
                    about=tuple(sorted(pair.about)),
                )
            )
        elif votes == 0 and place[1] < place[2]:
            dropped["dropped_as_contradicted"] += 1
    return rows


def _split(rows: Sequence[TextRow], *, seed: int, share: float) -> tuple[list[TextRow], list[TextRow]]:
    """Holds out questions by the document each is most about; other rows about such a document are left out."""
    about: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        about[row.served.key].update(row.about or ("",))
    subject = {key: max(sorted(found), key=found.__getitem__) for key, found in about.items()}
    held = {
        (name, key if not name else "")
        for key, name in subject.items()
        if _lot(seed, "held", name or f"question {key}") < share
    }
    documents = {name for name, _ in held if name}
    questions = {key for key, name in subject.items() if (name, key if not name else "") in held}
    outside = [row for row in rows if row.served.key in questions]
    inside = [row for row in rows if row.served.key not in questions and not documents & set(row.about)]
    # A held-out row may be about a second document; what is left of that in the other part goes.
    leaked = {name for row in outside for name in row.about}
    return [row for row in inside if not leaked & set(row.about)], outside


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _lot(seed: int, *names: str) -> float:
    """A number in [0, 1) that depends on nothing but the names and the seed."""
    digest = hashlib.sha256("\n".join((str(seed), *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
