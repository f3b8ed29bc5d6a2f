"""What translation needs to know beside the run itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from datahub_eventlog.config import Config
from datahub_eventlog.values import AssetKey


@dataclass(frozen=True)
class Context:
    """The options, and what the dispatcher found out about the run."""

    config: Config = field(default_factory=Config)
    is_cloud: bool = False
    """The run is Dagster+'s; the option of that name overrides it."""
    deployment: str | None = None
    """The name of the Dagster+ deployment; the option `branch` overrides it."""
    platform_urns: Mapping[AssetKey, str] = field(default_factory=dict)
    """The platform datasets of assets that the user's converter returned."""
    lineages: Mapping[str, tuple[frozenset[str], frozenset[str]]] = field(default_factory=dict)
    """The input and output urns of steps, by their keys, that the user's extractor returned."""
    scratch: tuple[str, ...] = ()
    """Directories that are Dagster's own storage: nothing in them is a dataset."""
    has_catalog: bool = False
    """The definitions of the run's code location are sent by themselves, see `catalog`."""
    opens_since: float = 0.0
    """From when on what fails opens an incident: what was before is history."""
    resolver: Callable[[str, str, str | None], Any] | None = None
    """Returns DataHub's `SchemaResolver` for a platform, environment and platform instance, or None
    while DataHub is not asked. None for a target that knows no schemas."""

    @property
    def on_cloud(self) -> bool:
        """Whether urns and links are those of Dagster+."""
        return self.is_cloud if self.config.is_cloud is None else self.config.is_cloud

    @property
    def branch(self) -> str:
        """The deployment's name; `prod` by default, as in the sensor plugin."""
        return self.config.branch or self.deployment or "prod"
