"""The bill of materials of a model, in CycloneDX."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any, Final

_NAMESPACE: Final = uuid.UUID("5b1c6c1e-6d0b-5f0f-8f0a-3f1f2f6d7c51")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What a model was trained or tested on. version: as in the store, or the publisher's."""

    name: str
    version: str
    digest: str = ""  # sha256 in hex, where known


def ml_bom(
    *,
    name: str,
    kind: str,
    made_at: datetime,
    description: str = "",
    algorithm: str = "",
    task: str = "",
    datasets: Sequence[Dataset] = (),
    libraries: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    properties: Mapping[str, str] | None = None,
) -> str:
    """CycloneDX 1.6 as JSON: the model with its card, its data sets, and the libraries (distribution names) behind it.

    files: path to sha256. metrics: name to value. properties: anything else that is known, as `seed` or `git`. The
    same arguments give the same text, so an artifact that holds it can be made again.
    """
    from cyclonedx.model import HashAlgorithm, HashType, Property  # noqa: PLC0415  takes 150 ms
    from cyclonedx.model.bom import Bom  # noqa: PLC0415  as above
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415  as above
    from cyclonedx.output.json import JsonV1Dot6  # noqa: PLC0415  as above

    def sha256(digest: str) -> list[HashType]:
        return [HashType(alg=HashAlgorithm.SHA_256, content=digest)] if digest else []

    model = Component(
        name=name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        description=description or None,
        properties=[
            Property(name=f"anabranch:{key}", value=value)
            for key, value in sorted({"kind": kind, **(properties or {})}.items())
        ],
        components=[
            Component(name=path, type=ComponentType.FILE, bom_ref=f"file:{path}", hashes=sha256(digest))
            for path, digest in sorted((files or {}).items())
        ],
    )
    data = [
        Component(
            name=one.name,
            version=one.version,
            type=ComponentType.DATA,
            bom_ref=f"data:{one.name}@{one.version}",
            hashes=sha256(one.digest),
        )
        for one in datasets
    ]
    code = [
        Component(name=library, version=_installed(library), type=ComponentType.LIBRARY, bom_ref=f"library:{library}")
        for library in sorted(set(libraries))
    ]
    bom = Bom(components=[*data, *code], serial_number=uuid.UUID(int=0))
    bom.metadata.component = model
    bom.metadata.timestamp = made_at
    bom.register_dependency(model, [*data, *code])
    said: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    # The library knows no model cards yet; the format does.
    said["metadata"]["component"]["modelCard"] = _card(algorithm, task, datasets, metrics or {})
    said["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, json.dumps(said, sort_keys=True))}"
    return json.dumps(said, indent=2, sort_keys=True) + "\n"


def _card(algorithm: str, task: str, datasets: Sequence[Dataset], metrics: Mapping[str, float]) -> dict[str, Any]:
    parameters: dict[str, Any] = {"datasets": [{"ref": f"data:{one.name}@{one.version}"} for one in datasets]}
    if algorithm:
        parameters["modelArchitecture"] = algorithm
    if task:
        parameters["task"] = task
    measured = [{"type": name, "value": f"{value:g}"} for name, value in sorted(metrics.items())]
    return {"modelParameters": parameters, "quantitativeAnalysis": {"performanceMetrics": measured}}


def _installed(library: str) -> str | None:
    try:
        return str(metadata(library)["Version"])
    except PackageNotFoundError:
        return None
