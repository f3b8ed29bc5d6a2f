"""Every option of the block `datahub:`, declared once: its name, type, default and meaning.

Reading, environment variables, messages and the table of the documentation follow from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from functools import cached_property, lru_cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, TypeAdapter

from datahub_eventlog.config.constraints import (
    NO_OTHER_KEYS,
    Duration,
    FunctionName,
    HttpAddress,
    PositiveDuration,
    one_of,
)
from datahub_eventlog.config.environment import PREFIX
from datahub_eventlog.config.patterns import Pattern, as_regex, check_pattern
from datahub_eventlog.config.targets import FileTarget, KafkaBlock, RestTarget, Target

T = TypeVar("T")

FABRICS = (
    *("DEV", "TEST", "QA", "UAT", "EI", "PRE", "STG", "NON_PROD", "PROD", "CORP", "RVW"),
    *("PRD", "TST", "SIT", "SBX", "SANDBOX", "CERT"),
)
"""DataHub's FabricType."""
EMIT_MODES = ("SYNC_WAIT", "SYNC_PRIMARY", "ASYNC", "ASYNC_WAIT")
"""DataHub's EmitMode."""
Dispatch = Literal["auto", "worker", "off"]


def _redaction_pattern(pattern: str) -> str:
    check_pattern(pattern)
    if re.fullmatch(pattern, ""):
        raise ValueError(f"{pattern!r} fits an empty text, and so everywhere")
    return as_regex(pattern)


def _redaction_key(key: str) -> str:
    if not re.search(r"\w", key):
        raise ValueError("expected names with a letter or digit")
    return key


@dataclass(frozen=True)
class Redaction:
    """What is hidden of what is sent, beside the secrets that are known everywhere."""

    __pydantic_config__ = NO_OTHER_KEYS

    enabled: StrictBool = True
    """Whether anything is. Logs and messages are redacted all the same."""
    patterns: tuple[Annotated[StrictStr, AfterValidator(_redaction_pattern)], ...] = ()
    """Regular expressions of what else is hidden; if one has groups, only those are."""
    keys: tuple[Annotated[StrictStr, AfterValidator(_redaction_key)], ...] = ()
    """Names of metadata and tags whose values are hidden, whatever they are."""


def option(meaning: str, *, default: T) -> T:
    """A field of `Config` that is an option of the block, with one line of documentation."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Config:
    """All options as the package uses them; each field is named as its option."""

    enabled: StrictBool = option(
        "The kill switch: if false, nothing is captured or delivered.", default=True
    )
    target: Target | None = None
    """What one of `TargetOptions` becomes."""
    dagster_url: HttpAddress | None = option(
        "Base URL of the webserver, for links from DataHub to Dagster.", default=None
    )
    env: Annotated[str, one_of(*FABRICS, in_any_case=True)] = option(
        "DataHub's environment (FabricType) in all urns.", default="PROD"
    )
    platform_instance: StrictStr | None = option(
        "DataHub's platform instance; it becomes part of the urns of jobs, not of assets.",
        default=None,
    )
    capture_asset_materialization: StrictBool = option(
        "Deliver materialized assets as datasets.", default=True
    )
    capture_input_output: StrictBool = option(
        "Deliver the paths in HANDLED_OUTPUT and LOADED_INPUT events as datasets.", default=True
    )
    asset_lineage_extractor: FunctionName | None = option(
        "Your function `package.module:function(context, dagster_generator, graph)`, which adds"
        " lineage.",
        default=None,
    )
    asset_keys_to_dataset_urn_converter: FunctionName | None = option(
        "Your function `package.module:function(key)`, which names the dataset of an asset.",
        default=None,
    )
    capture_dataset_from_asset_key: StrictBool = option(
        "Read an asset key `env/platform/name...` as the name of a dataset.", default=True
    )
    platform_instance_map: Mapping[StrictStr, StrictStr] = field(
        default_factory=dict,
        metadata={"meaning": "The platform instance of the tables behind assets, by platform."},
    )
    convert_urns_to_lowercase: StrictBool = option(
        "Write the names of the tables behind assets in lower case.", default=False
    )
    connect_ops_to_ops: StrictBool = option(
        "Connect ops in the order of their execution.", default=False
    )
    enable_asset_query_metadata_parsing: StrictBool = option(
        "Read lineage from the SQL in `Query` metadata.", default=True
    )
    emit_queries: StrictBool = option(
        "Deliver the SQL in `Query` metadata as query entities.", default=False
    )
    emit_assets: StrictBool = option(
        "Deliver assets as datasets of their own; if false, jobs are connected to the tables"
        " behind them.",
        default=True,
    )
    materialize_dependencies: StrictBool = option(
        "Send a datasetKey for each dependency, so that it exists in DataHub.", default=False
    )
    remove_wiped_assets: StrictBool = option(
        "Mark an asset that was wiped in Dagster as removed in DataHub.", default=False
    )
    job_pattern: Pattern = option(
        "The jobs to deliver, by name: `{allow: [regex], deny: [regex]}`.", default=Pattern()
    )
    asset_pattern: Pattern = option(
        "The assets to deliver, by key: `{allow: [regex], deny: [regex]}`.", default=Pattern()
    )
    urn_prefix: StrictStr | None = option(
        "What precedes a job's name in its urn, instead of its module or code location.",
        default=None,
    )
    is_cloud: StrictBool | None = option(
        "Build the urns of jobs as the sensor does on Dagster+.", default=None
    )
    branch: StrictStr | None = option(
        "The branch in the urns of jobs if `is_cloud` is true.", default=None
    )
    emit_mode: Annotated[str, one_of(*EMIT_MODES)] = option(
        "DataHub's EmitMode.", default="SYNC_PRIMARY"
    )
    dispatch: Annotated[Dispatch, one_of(*get_args(Dispatch))] = option(
        "Who delivers: `auto` is dagster-daemon, `worker` only `datahub-eventlog worker`, `off`"
        " nobody.",
        default="auto",
    )
    poll_interval: PositiveDuration = option(
        "How often a dispatcher looks for due runs, in seconds.", default=timedelta(seconds=1)
    )
    touch_interval: Duration = option(
        "How often a long run is touched in the ledger, in seconds.", default=timedelta(seconds=5)
    )
    exit_timeout: Duration = option(
        "How long a run's own process may deliver it at its end, in seconds; 0 for not at all.",
        default=timedelta(seconds=10),
    )
    max_attempts: Annotated[StrictInt, Field(ge=1)] = option(
        "How often the translation of a run may fail until the run is parked.", default=10
    )
    retention: PositiveDuration = option(
        "How long settled runs stay in the ledger, in seconds.", default=timedelta(days=30)
    )
    resend_after: Duration = option(
        "When unchanged state is sent again, in seconds.", default=timedelta(days=1)
    )
    redact: Redaction = option(
        "What is hidden beside passwords, tokens and keys: `{patterns: [regex], keys: [name],"
        " enabled}`.",
        default=Redaction(),
    )
    debug_mode: StrictBool = option("Log every proposal at DEBUG.", default=False)


@dataclass(frozen=True)
class TargetOptions:
    """The options that name a target, of which only one may be set."""

    datahub_client_config: RestTarget | None = option(
        "DataHub over HTTP; `DATAHUB_GMS_URL` and `DATAHUB_GMS_TOKEN` fill in server and token.",
        default=None,
    )
    datahub_kafka_config: KafkaBlock | None = option(
        "Instead: DataHub's topic on Kafka.", default=None
    )
    datahub_file_config: FileTarget | None = option(
        "Instead: a folder with one file a run, for `datahub ingest mcps`.", default=None
    )


TARGETS = tuple(each.name for each in fields(TargetOptions))


@dataclass(frozen=True)
class Option:
    """One key of the block."""

    name: str
    annotation: Any
    """What Pydantic makes its value from, with the constraints."""
    default: Any
    meaning: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper()

    @property
    def takes_text(self) -> bool:
        """Whether a variable's text is the value itself; it is JSON otherwise."""
        plain = self.annotation
        while get_origin(plain) is Annotated:
            plain = get_args(plain)[0]
        return plain is str or get_origin(plain) is Literal

    def parse(self, value: Any) -> Any:
        """The field of `Config` from what YAML holds; raises Pydantic's `ValidationError`."""
        return self._adapter.validate_python(value)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.annotation)


@lru_cache(maxsize=1)
def options() -> Mapping[str, Option]:
    """All options by their names, in the order in which they are declared."""
    declared: dict[str, Option] = {}
    for owner in (TargetOptions, Config):
        defaults, hints = owner(), get_type_hints(owner, include_extras=True)
        for each in fields(owner):
            if "meaning" in each.metadata:
                annotation, default = _without_none(hints[each.name]), getattr(defaults, each.name)
                meaning = each.metadata["meaning"]
                declared[each.name] = Option(each.name, annotation, default, meaning)
    return declared


def _without_none(annotation: Any) -> Any:
    """The type of what may be written: None only stands for an option that is not set."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (each for each in get_args(annotation) if each is not NoneType)
    return annotation


def obstacle_in(config: Config) -> str | None:
    """Why nothing is delivered under that configuration from any process, or None."""
    if not config.enabled:
        return "datahub: enabled is false: nothing is captured or delivered"
    if config.target is None:
        return (
            "datahub: no target is configured: set datahub_client_config (or DATAHUB_GMS_URL),"
            " datahub_kafka_config or datahub_file_config"
        )
    return None
