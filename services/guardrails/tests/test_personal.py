"""Personal data in texts: what is found, what is left alone, and how it is told."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from anabranch_faults import Invalid
from anabranch_guardrails.adapters.personal import KINDS, STRUCTURED, TYPES, PersonalData, configured
from anabranch_guardrails.adapters.personal.numbers import luhn
from anabranch_guardrails.domain import Stage, Subject

DATA = Path(os.environ.get("ANABRANCH_DATA", Path(__file__).parents[4] / "shared" / "data"))
SET = DATA / "pii" / "presidio_synth_train.jsonl"


@pytest.fixture(scope="module")
def everything() -> PersonalData:
    return configured({"kinds": [kind for kind in KINDS if kind != "PERSON"]})


def found(check: PersonalData, text: str) -> list[tuple[str, str]]:
    return [(text[span.start : span.end], span.kind) for span in check.inspect(text).spans]


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("card 4111 1111 1111 1111 please", "4111 1111 1111 1111", "CARD"),
        ("4111-1111-1111-1111", "4111-1111-1111-1111", "CARD"),
        ("amex 3782 822463 10005", "3782 822463 10005", "CARD"),
        ("points on my credit card 060426070011 ?", "060426070011", "CARD"),
        ('{"card":"4111111111111111"}', "4111111111111111", "CARD"),
        ("Meine Karte: 5105105105105100.", "5105105105105100", "CARD"),
        (
            "cc \uff14\uff11\uff11\uff11 \uff11\uff11\uff11\uff11 \uff11\uff11\uff11\uff11 \uff11\uff11\uff11\uff11",
            "",
            "CARD",
        ),
        ("card 4111\u200b1111\u200b1111\u200b1111", "4111\u200b1111\u200b1111\u200b1111", "CARD"),
        ("Ring me: 020 7946 0958", "020 7946 0958", "PHONE"),
        ("(415) 555-2671", "(415) 555-2671", "PHONE"),
        ("Mobile: 432 03 163", "432 03 163", "PHONE"),
        ("Desk: +41 (0)96 471 07 95\nFax: 9498777106", "+41 (0)96 471 07 95", "PHONE"),
        ("Fax: 463-612-6138x036", "463-612-6138x036", "PHONE"),
        ("+1 (415) 555-2671 ext. 123", "+1 (415) 555-2671 ext. 123", "PHONE"),
        ("Mon numéro est le 06 12 34 56 78", "06 12 34 56 78", "PHONE"),
        ("Bot: What's your phone number?\nUser: 5403926876", "5403926876", "PHONE"),
        ("432 03 163 - Office\n,9498777106 - Fax", "9498777106", "PHONE"),
        ("Mein Handy ist 0171 2345678", "0171 2345678", "PHONE"),
        ("tel:+14155552671", "+14155552671", "PHONE"),
        ("write to john.doe+tag@mail.example.co.uk, please", "john.doe+tag@mail.example.co.uk", "EMAIL"),
        ("jörg.müller@münchen.de", "jörg.müller@münchen.de", "EMAIL"),
        ("john [at] example [dot] com", "john [at] example [dot] com", "EMAIL"),
        ("to GB82 WEST 1234 5698 7654 32 today", "GB82 WEST 1234 5698 7654 32", "IBAN"),
        ("my iban is gb42nawi04454264788619", "gb42nawi04454264788619", "IBAN"),
        ("from 192.168.0.1:8080", "192.168.0.1", "IP"),
        ("at 2001:db8::8a2e:370:7334.", "2001:db8::8a2e:370:7334", "IP"),
        ("His social security number is 853-37-1694", "853-37-1694", "SSN"),
        ("SSN: 123456789", "123456789", "SSN"),
        ("see (https://example.com/a_(b)).", "https://example.com/a_(b)", "URL"),
        ("Just posted https://www.ArtistMovie.se/", "https://www.ArtistMovie.se/", "URL"),
        ("visit example.com", "example.com", "URL"),
        ("DOB: 03/04/1984", "03/04/1984", "DATE_OF_BIRTH"),
        ("My driver's license number is F162823540116", "F162823540116", "LICENCE"),
        ("passport number AB1234567", "AB1234567", "PASSPORT"),
    ],
)
def test_personal_data_is_found_where_it_stands(everything: PersonalData, text: str, value: str, kind: str) -> None:
    assert (value or text.removeprefix("cc "), kind) in found(everything, text)


@pytest.mark.parametrize(
    "text",
    [
        "Order 4111111111111111 has shipped to the depot.",
        "order id 120938475610, tracking number 1Z999AA10123456784",
        "commit 4f3d2a1b9c8e7f6a5d4c3b2a1908f7e6d5c4b3a2 in version 10.2.0.1",
        "ISBN 978-3-16-148410-0 and ISBN 0-306-40615-2 are in print.",
        "The meeting is on 2024-05-17 from 10:30 to 12:45.",
        "On 17.05.2024 we paid 1.250.000 EUR and 12 500 000 USD.",
        "The population was 8 336 817 in 2019.",
        "timestamp 1732217260 and 1732217260123",
        "uuid 550e8400-e29b-41d4-a716-446655440000",
        "std::vector<int> a::b x = foo::bar();",
        "see README.md, main.py, node.js and os.path",
        "pi is 3.14159265358979, its square 9.8696044",
        "Between 1914-1918 and 1939-1945 there were wars.",
        "Contact sales about the 2023-2024 season",
        "a = 0x7fffffffdeadbeef; b = 123456789012345678",
        "Call the function 1234567 times",
        "I'd like to call a taxi to 19607 107 Igias Street",
        "1 000 000 people called in 2020",
        "I'd like to call a taxi to Rua do Sol, 3610-114 Porto",
        "Contact\n12345 67890 Street Rd",
        "bank account 12345678 sort code 12-34-56",
        "pip install numpy==1.26.4.0",
        "ratio 1:2:3 and 10:20:30:40",
    ],
)
def test_numbers_of_other_things_are_left_alone(everything: PersonalData, text: str) -> None:
    assert found(everything, text) == []


def test_random_numbers_ids_and_hashes_are_rarely_taken_for_personal_data(everything: PersonalData) -> None:
    source = random.Random(5)  # noqa: S311  made-up texts are no secrets
    forms: tuple[Callable[[], str], ...] = (
        lambda: f"order {source.randrange(10**15, 10**16)} was sent",
        lambda: f"Job {source.randrange(10**11, 10**12)} done at 12:00",
        lambda: f"sha1 {source.getrandbits(160):040x}",
        lambda: f"total {source.randrange(10**6, 10**9):,} units",
        lambda: f"v{source.randrange(30)}.{source.randrange(30)}.{source.randrange(30)}.{source.randrange(30)}",
        lambda: f"released {source.randrange(1990, 2030)}-{source.randrange(1, 13):02}-{source.randrange(1, 29):02}",
        lambda: f"id={source.randrange(10**9, 10**10)} size={source.randrange(10**9)}",
        lambda: f"ticket #{source.randrange(10**7, 10**9)}",
    )
    texts = [form() for form in forms for _ in range(250)]
    wrong = [text for text in texts if everything.inspect(text).spans]
    assert len(wrong) <= len(texts) * 0.005, wrong[:10]


@pytest.mark.skipif(not SET.exists(), reason="the labelled sentences are not here")
def test_structured_kinds_are_found_and_little_else_in_labelled_sentences(everything: PersonalData) -> None:
    hits: Counter[str] = Counter()
    misses: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    wanted = {TYPES[kind] for kind in STRUCTURED}
    for row in map(json.loads, SET.read_text().splitlines()):
        spans = [span for span in everything.inspect(row["text"]).spans if span.kind in STRUCTURED]
        gold = [(span["start"], span["end"], span["type"]) for span in row["spans"] if span["type"] in wanted]
        for start, end, kind in gold:
            exact = any((span.start, span.end, TYPES[span.kind]) == (start, end, kind) for span in spans)
            (hits if exact else misses)[kind] += 1
        for span in spans:
            if not any(TYPES[span.kind] == kind and span.start < end and start < span.end for start, end, kind in gold):
                wrong[TYPES[span.kind]] += 1
    for kind in wanted:
        assert hits[kind] / (hits[kind] + misses[kind]) >= 0.97, kind
        assert hits[kind] / (hits[kind] + wrong[kind]) >= 0.97, kind


def test_a_card_needs_its_check_digit() -> None:
    assert luhn("4111111111111111")
    assert not luhn("4111111111111112")


def test_the_reason_counts_and_never_repeats() -> None:
    finding = configured({}).look(Subject(stage=Stage.INPUT, text="mail a.b@example.org or c@example.org"))
    assert finding.reason == "2 of EMAIL"
    assert finding.score == 1.0


def test_only_the_kinds_asked_for_are_found() -> None:
    text = "a@b.co 4111 1111 1111 1111 http://x.org/?mail=c@d.org"
    assert {kind for _, kind in found(configured({"kinds": ["email"]}), text)} == {"EMAIL"}


def test_a_number_within_an_address_of_a_page_is_found_though_pages_are_not_asked_for() -> None:
    assert found(configured({}), "http://192.168.0.1/admin") == [("192.168.0.1", "IP")]


def test_names_are_found_only_where_asked_for_and_introduced() -> None:
    check = configured({"kinds": ["PERSON"]})
    assert found(check, "My name is Anna Schmidt and I met Mr. Jones") == [
        ("Anna Schmidt", "PERSON"),
        ("Jones", "PERSON"),
    ]
    assert found(check, "Anna met Peter") == []


def test_a_kind_that_there_is_not_is_refused_by_its_option() -> None:
    with pytest.raises(Invalid) as caught:
        configured({"kinds": ["EMAIL", "SHOE_SIZE"]})
    assert caught.value.field == "options.kinds"
    with pytest.raises(Invalid) as caught:
        configured({"kind": ["EMAIL"]})
    assert caught.value.field == "options.kind"


@pytest.mark.parametrize(
    "unit",
    [
        "4",
        "1 ",
        "(1)",
        "1-",
        "a@",
        "a.",
        "+1",
        "::",
        "1.",
        "http://",
        "a at b dot ",
        "GB82 ",
        "1 (2) ",
        "x1 ",
        "www.",
        "\u200b1",
    ],
)
def test_no_text_of_one_thing_over_and_over_takes_long(everything: PersonalData, unit: str) -> None:
    text = (unit * (60_000 // len(unit)))[:60_000]
    began = time.process_time()
    everything.inspect(text)
    assert time.process_time() - began < 5.0


def test_five_megabytes_are_looked_at_up_to_a_bound_that_is_told(everything: PersonalData) -> None:
    text = "mail a@b.co now. " * 300_000
    finding = everything.inspect(text[:5_000_000])
    assert "only the first 1000000 characters" in finding.reason
    assert finding.spans
