"""Facts of definitions as compressed JSON, and back."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from datahub_eventlog.values import (
    AssetFacts,
    CheckFacts,
    CheckKey,
    Definitions,
    Json,
    Metadata,
    Metadatum,
    PortFacts,
)

MOST_CHARACTERS = 8 * 1024 * 1024
"""Of JSON; what is beyond is left out, and `Definitions.is_cut` says so."""
ZLIB_LEVEL = 3
"""Half the time of its default, and nearly as small."""


def encode(assets: Iterable[AssetFacts], rest: Definitions) -> tuple[str, bytes]:
    """Pack the facts: the hash of their content, and the compressed JSON.

    `rest.assets` is not used. Where there are too many facts, the last assets are cut first.
    """
    budget = _Budget(MOST_CHARACTERS)
    assets_json = budget.take(_dump(_fields(asset)) for asset in assets)
    ports_json = budget.take(
        _dump([handle, _ports_json(ports.inputs), _ports_json(ports.outputs)])
        for handle, ports in sorted(rest.ports.items())
    )
    job = {
        "description": rest.job_description,
        "owners": list(rest.job_owners),
        "tags": dict(rest.job_tags),
        "is_cut": rest.is_cut or budget.is_exceeded,
    }
    parts = (f"[{','.join(assets_json)}]", _dump(job), f"[{','.join(ports_json)}]")
    content = '{{"assets":{},"job":{},"ports":{}}}'.format(*parts).encode(errors="surrogatepass")
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return digest, zlib.compress(content, ZLIB_LEVEL)


def decode(packed: bytes) -> Definitions:
    """Unpack what `encode` packed, here or in another version of the package."""
    content = json.loads(zlib.decompress(packed))
    job = content.get("job", {})
    assets = [_value(AssetFacts, fields) for fields in content.get("assets", ())]
    return Definitions(
        assets={asset.key: asset for asset in assets},
        ports={
            handle: PortFacts(inputs=_ports(inputs), outputs=_ports(outputs))
            for handle, inputs, outputs in content.get("ports", ())
        },
        job_description=job.get("description"),
        job_owners=tuple(job.get("owners", ())),
        job_tags=job.get("tags", {}),
        is_cut=job.get("is_cut", False),
    )


class _Budget:
    """How many characters of JSON may still be taken."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.is_exceeded = False

    def take(self, pieces: Iterable[str]) -> list[str]:
        """As many of the pieces, in their order, as the rest of the budget holds."""
        taken = []
        for piece in pieces:
            self._left -= len(piece) + 1
            if self._left < 0:
                self.is_exceeded = True
                break
            taken.append(piece)
        return taken


_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def _dump(value: Json) -> str:
    return _COMPACT.encode(value)


def _fields(facts: Any) -> dict[str, Json]:
    """The fields of facts that are not empty, as JSON."""
    return {name: _field_json(value) for name, value in vars(facts).items() if value}


def _field_json(value: Any) -> Json:
    if isinstance(value, CheckKey):
        return [value.asset_key, value.name]
    if isinstance(value, tuple):
        return [_field_json(item) for item in value]
    if dataclasses.is_dataclass(value):
        return _fields(value)
    if isinstance(value, Mapping) and any(isinstance(item, Metadatum) for item in value.values()):
        return _metadata_json(value)
    return value


def _metadata_json(metadata: Metadata) -> Json:
    return {name: [metadatum.kind, metadatum.value] for name, metadatum in metadata.items()}


def _ports_json(ports: Mapping[str, Metadata]) -> Json:
    return {name: _metadata_json(metadata) for name, metadata in ports.items()}


def _value(cls: type[AssetFacts | CheckFacts], fields: Mapping[str, Json]) -> Any:
    """A value of the class from those fields that this version knows."""
    known = {field.name for field in dataclasses.fields(cls)} & fields.keys()
    return cls(**{name: _FROM_JSON.get(name, _as_is)(fields[name]) for name in known})


def _as_is(value: Json) -> Any:
    return value


def _metadata(content: Json) -> Metadata:
    return {name: Metadatum(kind, value) for name, (kind, value) in content.items()}


def _ports(content: Json) -> Mapping[str, Metadata]:
    return {name: _metadata(metadata) for name, metadata in content.items()}


_FROM_JSON: Mapping[str, Callable[[Json], Any]] = {
    "key": tuple,
    "owners": tuple,
    "kinds": tuple,
    "deps": lambda keys: tuple(tuple(key) for key in keys),
    "metadata": _metadata,
    "checks": lambda checks: tuple(_value(CheckFacts, fields) for fields in checks),
    "check": lambda parts: CheckKey(tuple(parts[0]), parts[1]),
}
