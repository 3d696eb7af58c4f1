"""Placeholders for personal data, and the way back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch_guardrails.adapters.personal import KINDS
from anabranch_guardrails.adapters.personal.vault import Anonymiser, Restorer, restored
from anabranch_guardrails.domain import Span

PIECES = (
    "<", ">", "EMAIL", "_", "1", "2", "<EMAIL_1>", "EMAIL_1", "&lt;", "&gt;", "email_1", "\\<", "\\>", " ", "[PHONE 2]",
    "a@b.co", "x", "DATE_OF_BIRTH_1", "date of birth", "-", "TEXT_1", "<TEXT_1>", "\\", "(", "{", "é", "\uff1c", "\n",
    "A", "Z_", "IP", "12", "0",
)  # fmt: skip


def test_equal_values_have_equal_placeholders_over_all_texts_of_a_vault() -> None:
    anonymiser = Anonymiser(["EMAIL", "PHONE"])
    assert anonymiser.hidden("Mail a@b.co or c@d.org.") == "Mail <EMAIL_1> or <EMAIL_2>."
    assert anonymiser.hidden("c@d.org, call +1 415 555 2671") == "<EMAIL_2>, call <PHONE_1>"
    assert anonymiser.vault == {"<EMAIL_1>": "a@b.co", "<EMAIL_2>": "c@d.org", "<PHONE_1>": "+1 415 555 2671"}


def test_what_looks_like_a_placeholder_already_comes_back_as_it_was() -> None:
    anonymiser = Anonymiser(["EMAIL"])
    hidden = anonymiser.hidden("The template says <EMAIL_1>; mine is a@b.co.")
    assert "a@b.co" not in hidden
    assert restored(hidden, anonymiser.vault) == "The template says <EMAIL_1>; mine is a@b.co."


@pytest.mark.parametrize(
    "written",
    [
        "<EMAIL_1>",
        "<email_1>",
        "< EMAIL_1 >",
        "<EMAIL 1>",
        "&lt;EMAIL_1&gt;",
        "\\<EMAIL\\_1\\>",
        "[EMAIL_1]",
        "EMAIL_1",
        "<Email-1>",
    ],
)
def test_a_placeholder_that_a_model_changed_is_understood(written: str) -> None:
    assert restored(f"Write to {written}.", {"<EMAIL_1>": "a@b.co"}) == "Write to a@b.co."


@pytest.mark.parametrize("written", ["<EMAIL_2>", "EMAIL_12", "MY_EMAIL_1", "email_1", "<EMAIL>"])
def test_what_is_no_placeholder_of_the_vault_stays(written: str) -> None:
    assert restored(written, {"<EMAIL_1>": "a@b.co"}) == written


def test_a_value_that_holds_a_placeholder_is_not_read_again() -> None:
    assert restored("<EMAIL_1>", {"<EMAIL_1>": "<PHONE_1>", "<PHONE_1>": "no"}) == "<PHONE_1>"


def test_a_stream_may_split_a_placeholder_anywhere() -> None:
    text = "Write to <EMAIL_1>, or \\<PHONE\\_1\\> now."
    vault = {"<EMAIL_1>": "a@b.co", "<PHONE_1>": "555"}
    for size in range(1, 12):
        restorer = Restorer(vault)
        got = "".join(restorer.feed(text[at : at + size]) for at in range(0, len(text), size)) + restorer.end()
        assert got == "Write to a@b.co, or 555 now."


def test_text_without_the_beginning_of_a_placeholder_is_not_held_back() -> None:
    restorer = Restorer({"<EMAIL_1>": "a@b.co"})
    assert restorer.feed("Plain words go out at once. ") == "Plain words go out at once. "
    assert restorer.feed("Then <EM") == "Then "
    assert restorer.feed("AIL_1> ok") == "a@b.co ok"
    assert restorer.end() == ""


def test_ten_thousand_texts_come_back_exactly_whole_and_in_pieces() -> None:
    source = random.Random(7)  # noqa: S311  made-up texts are no secrets
    for _ in range(3_400):
        anonymiser = Anonymiser(["EMAIL"])
        texts = ["".join(source.choices(PIECES, k=source.randint(0, 14))) for _ in range(3)]
        hidden = []
        for text in texts:
            spans = []
            for _ in range(source.randint(0, 3) if text else 0):
                start = source.randrange(len(text))
                end = source.randint(start + 1, min(len(text), start + 6))
                spans.append(Span(start=start, end=end, kind=source.choice(KINDS)))
            hidden.append(anonymiser.replaced(text, spans))
        vault = anonymiser.vault
        for text, shown in zip(texts, hidden, strict=True):
            assert restored(shown, vault) == text
            assert _streamed(shown, vault, source) == text


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_a_stream_restores_as_the_whole_does(text: str, source: random.Random) -> None:
    vault = {"<EMAIL_1>": "a@b.co", "<IP_12>": "::1", "<TEXT_1>": "<", "<DATE_OF_BIRTH_1>": "1.1.1984"}
    assert _streamed(text, vault, source) == restored(text, vault)


def _streamed(text: str, vault: dict[str, str], source: random.Random) -> str:
    restorer = Restorer(vault)
    parts: list[str] = []
    at = 0
    while at < len(text):
        size = source.randint(1, 5)
        parts.append(restorer.feed(text[at : at + size]))
        at += size
    return "".join(parts) + restorer.end()
