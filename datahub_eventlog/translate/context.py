"""What translation needs to know beside the run itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from datahub_eventlog.config import Config
from datahub_eventlog.values import AssetKey


@dataclass(frozen=True)
class Context:
    """The options, and what was found out about this run outside of it."""

    config: Config = field(default_factory=Config)
    is_cloud: bool = False
    """The run is Dagster+'s; the option of that name overrides it."""
    deployment: str | None = None
    """The name of the Dagster+ deployment; the option `branch` overrides it."""
    platform_urns: Mapping[AssetKey, str] = field(default_factory=dict)
    """What the user's converter said: the platform dataset of an asset."""
    lineages: Mapping[str, tuple[frozenset[str], frozenset[str]]] = field(default_factory=dict)
    """What the user's extractor said: the input and output urns of a step, by its key."""
    scratch: tuple[str, ...] = ()
    """Directories that are Dagster's own storage: nothing in them is a dataset."""
    resolver: Callable[[str, str, str | None], Any] | None = None
    """DataHub's `SchemaResolver` for a platform, environment and platform instance, or None while
    it is let be. The whole is None where the target offers none."""

    @property
    def on_cloud(self) -> bool:
        """Whether urns and links are those of Dagster+."""
        return self.is_cloud if self.config.is_cloud is None else self.config.is_cloud

    @property
    def branch(self) -> str:
        """The deployment's name, `prod` where nobody says one, as in the sensor plugin."""
        return self.config.branch or self.deployment or "prod"
