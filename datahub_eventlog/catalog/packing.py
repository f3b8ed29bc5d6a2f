"""Parts of a catalogue as compressed JSON, and back."""

from __future__ import annotations

import json
import zlib

from datahub_eventlog.definitions.value_json import from_json, to_json
from datahub_eventlog.values import CatalogPart

ZLIB_LEVEL = 3
"""As for the definitions of runs."""

_SORTED = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def encode(part: CatalogPart) -> bytes:
    """Pack a part. Equal parts make equal bytes, in every process that has the same zlib."""
    content = _SORTED.encode(to_json(part)).encode(errors="surrogatepass")
    return zlib.compress(content, ZLIB_LEVEL)


def decode(packed: bytes) -> CatalogPart:
    """Unpack what `encode` packed, here or in another version of the package."""
    return from_json(CatalogPart, json.loads(zlib.decompress(packed)))
