"""What is put is what is fetched, and nothing else ever is."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anabranch_artifacts import ArtifactStore, Dataset, Signer, kind_of, make_keys, ml_bom
from anabranch_faults import Invalid, NotFound, TooLarge, Unreachable


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder / "private.pem", folder / "public.pem")
    return folder / "private.pem", folder / "public.pem"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "card.md").write_text("# card")
    (folder / "sub" / "model.txt").write_bytes(b"weights")
    return folder


@pytest.fixture(params=["folder", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path.name}/store"


def test_what_was_put_is_fetched_under_the_name_of_its_content(
    root: str, model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    store = ArtifactStore(root, public_key=keys[1])
    stored = store.put(model, kind="reranker", signer=Signer(keys[0]))
    assert stored.version == f"rr-{stored.digest[:12]}"
    assert kind_of(stored.version) == stored.kind == "reranker"
    assert store.exists(stored.version)
    fetched = store.fetch(stored.version, into=tmp_path / "into")
    assert (fetched.version, fetched.digest) == (stored.version, stored.digest)
    assert (fetched.folder / "sub" / "model.txt").read_bytes() == b"weights"
    again = store.put(model, kind="reranker", signer=Signer(keys[0]))
    assert again == stored
    assert store.fetch(stored.version, into=tmp_path / "into") == fetched
    assert not [path for path in (tmp_path / "into").iterdir() if path.name != stored.version]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(
        st.from_regex(r"[a-z0-9_-]{1,12}(\.[a-z]{1,4})?", fullmatch=True), st.binary(max_size=200), min_size=1
    )
)
def test_any_files_come_back_as_they_were_and_their_order_does_not_count(files: dict[str, bytes]) -> None:
    files.pop("model.sig", None)
    with tempfile.TemporaryDirectory() as name:
        first, second, store = Path(name, "a"), Path(name, "b"), ArtifactStore(f"{name}/s", public_key=None)
        for folder, order in ((first, sorted(files)), (second, sorted(files, reverse=True))):
            folder.mkdir()
            for path in order or ["x"]:
                (folder / path).write_bytes(files.get(path, b""))
        stored = store.put(first, kind="dataset", signer=None)
        assert store.put(second, kind="dataset", signer=None) == stored
        folder = store.fetch(stored.version, into=Path(name, "into")).folder
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == (files or {"x": b""})


def change(place: Path) -> None:
    (place / "sub" / "model.txt").write_bytes(b"other weights")


def add(place: Path) -> None:
    (place / "more.txt").write_text("more")


def add_for_git(place: Path) -> None:
    (place / ".gitignore").write_text("more")


def remove(place: Path) -> None:
    (place / "card.md").unlink()


def rename(place: Path) -> None:
    (place / "card.md").rename(place / "kard.md")


def link(place: Path) -> None:
    (place / "card.md").unlink()
    (place / "card.md").symlink_to(place / "sub" / "model.txt")


def break_signature(place: Path) -> None:
    (place / "model.sig").write_text("{}")


@pytest.mark.parametrize("tamper", [change, add, add_for_git, remove, rename, link, break_signature])
def test_a_model_that_was_tampered_with_is_refused_and_leaves_nothing(
    model: Path, keys: tuple[Path, Path], tmp_path: Path, tamper: Callable[[Path], None]
) -> None:
    store = ArtifactStore(str(tmp_path / "store"), public_key=keys[1])
    stored = store.put(model, kind="reranker", signer=Signer(keys[0]))
    tamper(Path(stored.path))
    with pytest.raises(Invalid) as caught:
        store.fetch(stored.version, into=tmp_path / "into")
    assert caught.value.reason == "TAMPERED"
    assert list((tmp_path / "into").iterdir()) == []
    store.put(model, kind="reranker", signer=Signer(keys[0]))
    if tamper not in {add, add_for_git, rename}:  # what does not belong there is not the store's to delete
        assert store.fetch(stored.version, into=tmp_path / "into").digest == stored.digest


def test_a_tampered_copy_is_fetched_anew(model: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"), public_key=keys[1])
    version = store.put(model, kind="reranker", signer=Signer(keys[0])).version
    change(store.fetch(version, into=tmp_path / "into").folder)
    assert (store.fetch(version, into=tmp_path / "into").folder / "sub" / "model.txt").read_bytes() == b"weights"


def test_a_signed_model_under_the_name_of_another_is_refused(
    model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    store = ArtifactStore(str(tmp_path / "store"), public_key=keys[1])
    old = store.put(model, kind="reranker", signer=Signer(keys[0]))
    change(model)
    new = store.put(model, kind="reranker", signer=Signer(keys[0]))
    Path(new.path).rename(tmp_path / "aside")
    Path(old.path).rename(new.path)
    with pytest.raises(Invalid) as caught:
        store.fetch(new.version, into=tmp_path / "into")
    assert caught.value.reason == "TAMPERED"


def test_an_unsigned_model_and_one_signed_by_another_key_are_refused_until_it_is_signed(
    root: str, model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    store = ArtifactStore(root, public_key=keys[1])
    version = store.put(model, kind="adapter", signer=None).version
    with pytest.raises(Invalid) as caught:
        store.fetch(version, into=tmp_path / "into")
    assert caught.value.reason == "UNSIGNED"
    make_keys(tmp_path / "other.pem", tmp_path / "other.pub")
    store.put(model, kind="adapter", signer=Signer(tmp_path / "other.pem"))
    with pytest.raises(Invalid) as caught:
        store.fetch(version, into=tmp_path / "into")
    assert caught.value.reason == "TAMPERED"
    store.put(model, kind="adapter", signer=Signer(keys[0]))
    assert store.fetch(version, into=tmp_path / "into").version == version


def test_without_a_public_key_no_model_is_given_out_but_data_is(
    model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    store = ArtifactStore(str(tmp_path / "store"), public_key=None)
    version = store.put(model, kind="reward", signer=Signer(keys[0])).version
    with pytest.raises(Invalid) as caught:
        store.fetch(version, into=tmp_path / "into")
    assert caught.value.reason == "NO_PUBLIC_KEY"
    data = store.put(model, kind="dataset", signer=None).version
    assert store.fetch(data, into=tmp_path / "into").version == data


def test_data_that_was_tampered_with_is_refused(model: Path, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"), public_key=None)
    stored = store.put(model, kind="dataset", signer=None)
    change(Path(stored.path))
    with pytest.raises(Invalid):
        store.fetch(stored.version, into=tmp_path / "into")


def test_what_is_not_there_or_not_whole_is_not_found(
    root: str, keys: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    store = ArtifactStore(root, public_key=keys[1])
    assert not store.exists("rr-0123456789ab")
    with pytest.raises(NotFound):
        store.fetch("rr-0123456789ab", into=tmp_path / "into")
    local = ArtifactStore(str(tmp_path / "half"), public_key=None)
    stored = local.put(model, kind="dataset", signer=None)
    (Path(stored.path) / ".complete").unlink()
    assert not local.exists(stored.version)
    with pytest.raises(NotFound):
        local.fetch(stored.version, into=tmp_path / "into")


@pytest.mark.parametrize(
    "version", ["", "rr-", "../../etc/passwd", "rr-0123456789aB", "rr-0123456789ab/..", "xx-0123456789ab"]
)
def test_a_name_that_is_no_version_is_refused(version: str, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path), public_key=None)
    for ask in (lambda: store.exists(version), lambda: store.fetch(version, into=tmp_path)):
        with pytest.raises(Invalid) as caught:
            ask()
        assert caught.value.reason == "INVALID_VERSION"


def test_what_an_artifact_cannot_hold_is_refused(model: Path, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"), public_key=None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Invalid, match="no files"):
        store.put(tmp_path / "empty", kind="dataset", signer=None)
    (model / "model.sig").write_text("mine")
    with pytest.raises(Invalid, match="store's to write"):
        store.put(model, kind="dataset", signer=None)
    (model / "model.sig").unlink()
    (model / "link").symlink_to("/etc/hostname")
    with pytest.raises(Invalid, match="neither a file nor a folder"):
        store.put(model, kind="dataset", signer=None)
    (model / "link").unlink()
    (model / ".hidden").write_text("x")
    with pytest.raises(Invalid, match="no name"):
        store.put(model, kind="dataset", signer=None)


def test_what_is_too_large_is_not_copied(model: Path, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"), public_key=None)
    version = store.put(model, kind="dataset", signer=None).version
    with pytest.raises(TooLarge):
        store.fetch(version, into=tmp_path / "into", max_bytes=3)


def test_a_store_that_cannot_be_reached_says_so(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(Unreachable):
        ArtifactStore(str(tmp_path / "file"), public_key=None).put(model, kind="dataset", signer=None)
    with pytest.raises(Invalid, match="nosuch"):
        ArtifactStore("nosuch://bucket", public_key=None).exists("ds-0123456789ab")


def test_keys_are_for_their_owner_and_never_written_over(tmp_path: Path) -> None:
    private, public = tmp_path / "deep" / "private.pem", tmp_path / "deep" / "public.pem"
    make_keys(private, public)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes(), public.read_bytes()
    public.unlink()
    make_keys(private, public)
    assert (private.read_bytes(), public.read_bytes()) == before
    assert len(list(private.parent.iterdir())) == 2
    private.write_text("not a key")
    with pytest.raises(Invalid) as caught:
        make_keys(private, public)
    assert caught.value.reason == "BAD_KEY"


def test_a_bad_key_is_told_from_a_bad_model(model: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no")
    with pytest.raises(Invalid) as caught:
        ArtifactStore(str(tmp_path / "s"), public_key=None).put(
            model, kind="reward", signer=Signer(tmp_path / "bad.pem")
        )
    assert caught.value.reason == "BAD_KEY"
    version = ArtifactStore(str(tmp_path / "s"), public_key=None).put(model, kind="reward", signer=Signer(keys[0]))
    with pytest.raises(Invalid) as caught:
        ArtifactStore(str(tmp_path / "s"), public_key=tmp_path / "bad.pem").fetch(
            version.version, into=tmp_path / "into"
        )
    assert caught.value.reason == "BAD_KEY"


def test_the_bill_of_materials_names_model_data_and_libraries_and_can_be_made_again() -> None:
    def make() -> str:
        return ml_bom(
            name="reranker of acme/docs",
            kind="reranker",
            made_at=datetime(2026, 1, 2, tzinfo=UTC),
            algorithm="logistic regression",
            task="ranking",
            datasets=[Dataset(name="feedback", version="ds-0123456789ab", digest="ab" * 32)],
            libraries=["numpy", "no-such-library"],
            files={"model.safetensors": "cd" * 32},
            metrics={"ndcg@10": 0.91},
            properties={"seed": "7"},
        )

    bom = json.loads(make())
    assert make() == make()
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    component = bom["metadata"]["component"]
    assert component["type"] == "machine-learning-model"
    assert component["modelCard"]["modelParameters"]["modelArchitecture"] == "logistic regression"
    assert component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"] == [
        {"type": "ndcg@10", "value": "0.91"}
    ]
    assert {one["name"]: one["type"] for one in bom["components"]} == {
        "feedback": "data",
        "no-such-library": "library",
        "numpy": "library",
    }
    refs = {one["ref"]: one.get("dependsOn", []) for one in bom["dependencies"]}
    assert "data:feedback@ds-0123456789ab" in refs["model"]


def test_importing_loads_neither_model_signing_nor_cyclonedx() -> None:
    code = "import sys, anabranch_artifacts; print([m for m in ('model_signing', 'cyclonedx') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
