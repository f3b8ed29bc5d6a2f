"""Where proposals are delivered: one of DataHub's service, its Kafka topic or a folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, StrictBool, StrictStr

from datahub_eventlog.config.constraints import (
    NO_OTHER_KEYS,
    Folder,
    HttpAddress,
    PositiveSeconds,
)

MCP_KEY = "MetadataChangeProposal"
MCP_TOPIC = "MetadataChangeProposal_v1"
"""How DataHub calls a kind of message, and the topic that it reads it from by default."""


@dataclass(frozen=True)
class RestTarget:
    """DataHub's own service, GMS, over HTTP."""

    __pydantic_config__ = NO_OTHER_KEYS

    server: HttpAddress = field(repr=False)
    """It may have a user and a password in it."""
    token: StrictStr | None = field(default=None, repr=False)
    timeout_sec: PositiveSeconds = 30.0
    extra_headers: Mapping[StrictStr, StrictStr] = field(default_factory=dict, repr=False)
    ca_certificate_path: StrictStr | None = None
    client_certificate_path: StrictStr | None = None
    client_key_path: StrictStr | None = None
    disable_ssl_verification: StrictBool = False


@dataclass(frozen=True)
class KafkaConnection:
    """How Kafka and its schema registry are reached."""

    __pydantic_config__ = NO_OTHER_KEYS

    bootstrap: StrictStr
    schema_registry_url: StrictStr = field(repr=False)
    producer_config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    schema_registry_config: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class KafkaTarget(KafkaConnection):
    """DataHub's proposal topic on Kafka."""

    topic: str = MCP_TOPIC


def _with_proposals(routes: Mapping[str, str]) -> Mapping[str, str]:
    if routes and MCP_KEY not in routes:
        raise ValueError(f"name the topic of {MCP_KEY}")
    return routes


@dataclass(frozen=True)
class KafkaBlock:
    """The Kafka target as it is written, which is as in DataHub's recipes."""

    __pydantic_config__ = NO_OTHER_KEYS

    connection: KafkaConnection
    topic_routes: Annotated[Mapping[StrictStr, StrictStr], AfterValidator(_with_proposals)] = field(
        default_factory=dict
    )

    def target(self) -> KafkaTarget:
        """The same as a target."""
        return KafkaTarget(**vars(self.connection), topic=self.topic_routes.get(MCP_KEY, MCP_TOPIC))


@dataclass(frozen=True)
class FileTarget:
    """A folder with one file a run, in the format that `datahub ingest mcps` reads."""

    __pydantic_config__ = NO_OTHER_KEYS

    path: Folder


Target: TypeAlias = RestTarget | KafkaTarget | FileTarget
