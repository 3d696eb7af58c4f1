"""A real Weaviate."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from anabranch_local.golang import find_go
from anabranch_local.weaviate import VERSION, WeaviateServer


@pytest.mark.connected
def test_objects_survive_a_crash_on_the_same_ports_and_strangers_are_refused(tmp_path: Path) -> None:
    with WeaviateServer(tmp_path, api_key="sesame") as server:
        url, ports = f"http://{server.http}/v1", (server.http_port, server.grpc_port)
        with httpx.Client(headers={"authorization": "Bearer sesame"}, timeout=20) as client:
            assert client.get(f"{url}/meta").json()["version"] == VERSION
            client.post(f"{url}/schema", json={"class": "Thing", "vectorizer": "none"}).raise_for_status()
            body = {"class": "Thing", "vector": [0.1, 0.2], "id": "00000000-0000-0000-0000-000000000001"}
            client.post(f"{url}/objects", json=body).raise_for_status()
            assert httpx.get(f"{url}/objects/Thing/{body['id']}").status_code == 401
            server.kill()
            server.start()
            assert (server.http_port, server.grpc_port) == ports
            assert client.get(f"{url}/objects/Thing/{body['id']}").status_code == 200


def test_a_go_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    program, environment = find_go((1, 26))
    assert program.parent.parent == Path(environment["GOROOT"])
    assert find_go((1, 19)) == (old, {})
