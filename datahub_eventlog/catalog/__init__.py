"""What the code locations of a workspace define, whether or not it ever ran."""

from datahub_eventlog.catalog.reading import LocationReading, read_location
from datahub_eventlog.catalog.workspace import (
    LocationState,
    Workspace,
    daemon_workspace,
    open_workspace,
)

__all__ = [
    "LocationReading",
    "LocationState",
    "Workspace",
    "daemon_workspace",
    "open_workspace",
    "read_location",
]
