"""Lineage, runs and assets from Dagster's event log to DataHub.

dagster.yaml names `DataHubStorage` or `DataHubEventLogStorage`; whoever writes an
`asset_lineage_extractor` imports `DagsterGenerator` and `DatasetLineage`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datahub_eventlog._version import __version__
    from datahub_eventlog.extractor import DagsterGenerator, DatasetLineage
    from datahub_eventlog.storages import DataHubEventLogStorage, DataHubStorage

__all__ = [
    "DagsterGenerator",
    "DataHubEventLogStorage",
    "DataHubStorage",
    "DatasetLineage",
    "__version__",
]

# Imported at their first use: every process of Dagster's imports the storages, and only a
# dispatcher can import the rest.
_HOMES = {
    "DagsterGenerator": "extractor",
    "DataHubEventLogStorage": "storages",
    "DataHubStorage": "storages",
    "DatasetLineage": "extractor",
    "__version__": "_version",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
