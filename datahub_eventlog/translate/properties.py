"""Facts as plain strings, for DataHub's custom properties.

Numbers, text and links stay as they are; structures become JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timezone

from datahub_eventlog.values import Json, Metadata, Metadatum


def property_texts(metadata: Metadata) -> dict[str, str]:
    """The metadata as custom properties, without what has no value."""
    return present({name: property_text(metadatum) for name, metadatum in metadata.items()})


def property_text(metadatum: Metadatum) -> str | None:
    """One metadata value as a person would write it, or None if it has no value."""
    value = metadatum.value
    if value is None or metadatum.kind == "null":
        return None
    if metadatum.kind == "timestamp":
        return time_text(value)
    if metadatum.kind == "asset":
        return "/".join(value)
    return json_text(value)


def json_text(value: Json) -> str:
    """A string as it is, anything else as JSON with sorted keys."""
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)


def time_text(seconds: float) -> str:
    """A time as ISO 8601 in UTC."""
    if not math.isfinite(seconds):
        return str(seconds)
    return datetime.fromtimestamp(seconds, tz=timezone.utc).isoformat()


def present(properties: Mapping[str, str | None]) -> dict[str, str]:
    """The properties that have a value, sorted by name."""
    return {name: text for name, text in sorted(properties.items()) if text is not None}
