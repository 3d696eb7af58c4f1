"""The Kafka contract: manifests that say the truth, golden messages that still parse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import json_format, text_format
from google.protobuf.message import Message

from anabranch import topics

EXAMPLES = Path(__file__).resolve().parents[2] / "protos" / "examples"
GOLDEN = sorted(EXAMPLES.glob("*/*.textproto"))
SERVICES = {path.name for path in (Path(__file__).resolve().parents[2] / "services").iterdir() if path.is_dir()}
BY_NAME: dict[str, topics.Topic[Message]] = {topic.name: topic for topic in topics.ALL}


def parse(path: Path) -> Message:
    return text_format.Parse(path.read_text(), BY_NAME[path.parent.name].message())


@pytest.mark.parametrize("topic", topics.ALL, ids=lambda topic: topic.name)
def test_every_topic_is_named_after_its_owner_and_a_past_participle(topic: topics.Topic[Message]) -> None:
    assert re.fullmatch(r"[a-z-]+\.[a-z-]+\.[a-z-]+\.v\d+", topic.name)
    assert topic.owner in (topic.name.split(".")[0], "(outside)")


@pytest.mark.parametrize("topic", topics.ALL, ids=lambda topic: topic.name)
def test_only_services_that_exist_produce_and_consume_a_topic(topic: topics.Topic[Message]) -> None:
    assert set(topic.producers) | set(topic.consumers) <= SERVICES
    if topic.owner != "(outside)":
        assert topic.producers == (topic.owner,)


@pytest.mark.parametrize("topic", topics.ALL, ids=lambda topic: topic.name)
def test_every_topic_has_a_golden_message(topic: topics.Topic[Message]) -> None:
    assert list((EXAMPLES / topic.name).glob("*.textproto"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_golden_message_parses_and_survives_both_encodings(path: Path) -> None:
    message = parse(path)
    assert type(message).FromString(message.SerializeToString()) == message
    assert json_format.Parse(json_format.MessageToJson(message), type(message)()) == message


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_golden_message_says_which_message_it_is(path: Path) -> None:
    message = parse(path)
    named = re.findall(r"^# proto-message: (\w+)$", path.read_text(), re.MULTILINE)
    assert named == [message.DESCRIPTOR.name]


def test_compacted_topics_have_no_retention_and_one_partition() -> None:
    for topic in topics.ALL:
        if topic.compacted:
            assert topic.retention is None
            assert topic.partitions == 1
