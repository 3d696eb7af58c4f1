"""Platforms that all tests here share: real Kafka, real index, all services as processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anabranch_testkit.platform import RunningPlatform, running_platform


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with running_platform(tmp_path_factory.mktemp("embedded"), "--index", "embedded") as platform:
        yield platform


@pytest.fixture(scope="session")
def weaviate_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with running_platform(tmp_path_factory.mktemp("weaviate"), "--index", "weaviate") as platform:
        yield platform
