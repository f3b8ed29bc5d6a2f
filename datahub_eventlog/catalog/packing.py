"""Parts of a catalogue as compressed JSON, and back."""

from __future__ import annotations

import hashlib
import json
import zlib

from datahub_eventlog.definitions.value_json import from_json, to_json
from datahub_eventlog.values import CatalogPart

ZLIB_LEVEL = 3
"""As for the definitions of runs."""

_SORTED = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def encode(part: CatalogPart) -> bytes:
    """Pack a part. Equal parts make equal bytes, in every process that has the same zlib."""
    return zlib.compress(_content(part), ZLIB_LEVEL)


def decode(packed: bytes) -> CatalogPart:
    """Unpack what `encode` packed, here or in another version of the package."""
    return from_json(CatalogPart, json.loads(zlib.decompress(packed)))


def digest(part: CatalogPart) -> str:
    """The hash of a part's content: equal parts have equal ones, in every process."""
    return hashlib.blake2b(_content(part), digest_size=16).hexdigest()


def _content(part: CatalogPart) -> bytes:
    return _SORTED.encode(to_json(part)).encode(errors="surrogatepass")
