"""Every option of the block `datahub:`, declared once: its name, type, default and meaning.

Reading, environment variables, messages and the table of the documentation follow from here.
"""

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

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, StrictStr, TypeAdapter

from datahub_eventlog.config.constraints import (
    NO_OTHER_KEYS,
    Duration,
    FunctionName,
    HttpAddress,
    PositiveDuration,
    one_of,
    text,
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
    patterns: tuple[Annotated[str, text(_redaction_pattern)], ...] = ()
    """Regular expressions of what else is hidden; if one has groups, only those are."""
    keys: tuple[Annotated[str, text(_redaction_key)], ...] = ()
    """Names of metadata and tags whose values are hidden, whatever they are."""


def _percent(value: Any) -> float:
    # Written so that it refuses NaN, too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:  # noqa: PLR2004
        raise ValueError("expected percent, 0 to 100")
    return float(value)


@dataclass(frozen=True)
class CatalogOptions:
    """What is sent of the definitions of code locations, whether or not they ever ran."""

    __pydantic_config__ = NO_OTHER_KEYS

    enabled: StrictBool = True
    """Whether definitions are sent by themselves, whenever a code location is loaded."""
    interval: PositiveDuration = timedelta(hours=1)
    """How often definitions are compared although their code was not loaded anew."""
    remove_stale_metadata: StrictBool = True
    """Whether what is not defined any more is marked as removed."""
    fail_safe_threshold: Annotated[float, BeforeValidator(_percent)] = 40.0
    """Percent of a code location's entities; if more are gone at once, nothing is removed."""


@dataclass(frozen=True)
class VerifyOptions:
    """What a dispatcher compares with DataHub from time to time, beside its deliveries."""

    __pydantic_config__ = NO_OTHER_KEYS

    sample: Annotated[StrictInt, Field(ge=0)] = 0
    """Delivered runs that are compared each time; 0: none are."""
    interval: PositiveDuration = timedelta(hours=1)
    """How often."""


CheckFailure = Literal["error", "warn", "blocking"]


@dataclass(frozen=True)
class HealthOptions:
    """What is sent of how well assets and runs are, beside their events."""

    __pydantic_config__ = NO_OTHER_KEYS

    checks: StrictBool = True
    """Whether asset checks are sent as assertions."""
    freshness: StrictBool = True
    """Whether freshness policies are, and whether they were met."""
    failed_materializations: StrictBool = True
    """Whether an asset's operations name the materialisations that failed."""
    backfills: StrictBool = True
    """Whether the runs of a backfill stand below an instance of their own."""


@dataclass(frozen=True)
class IncidentOptions:
    """For what an incident is opened, and resolved when it is over."""

    __pydantic_config__ = NO_OTHER_KEYS

    checks: tuple[Annotated[CheckFailure, one_of(*get_args(CheckFailure))], ...] = ()
    """Checks that failed with these severities, or `blocking` ones."""
    freshness: StrictBool = False
    """Assets that missed their freshness policy."""
    runs: StrictBool = False
    """Assets that a run failed to materialise, and jobs without assets that failed."""

    @property
    def are_wanted(self) -> bool:
        """Whether there are any."""
        return bool(self.checks) or self.freshness or self.runs


def option(meaning: str, *, default: T) -> T:
    """A field of `Config` that is an option of the block, with one line of documentation."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Config:
    """All options as the package uses them; each field is named as its option."""

    enabled: StrictBool = option(
        "if false, nothing is captured and nothing is delivered", default=True
    )
    target: Target | None = None
    """What one of `TargetOptions` becomes."""
    dagster_url: HttpAddress | None = option(
        "base URL of the Dagster webserver, for links", default=None
    )
    env: Annotated[str, one_of(*FABRICS, in_any_case=True)] = option(
        "DataHub's environment of all entities", default="PROD"
    )
    platform_instance: StrictStr | None = option(
        "part of the urns of jobs, but not of assets",
        default=None,
    )
    capture_asset_materialization: StrictBool = option("send assets as datasets", default=True)
    capture_input_output: StrictBool = option(
        "send the paths in HANDLED_OUTPUT and LOADED_INPUT events as datasets", default=True
    )
    asset_lineage_extractor: FunctionName | None = option(
        "`package.module:function` that returns further lineage of a run",
        default=None,
    )
    asset_keys_to_dataset_urn_converter: FunctionName | None = option(
        "`package.module:function` that returns the urn of an asset's table",
        default=None,
    )
    capture_dataset_from_asset_key: StrictBool = option(
        "an asset key `env/platform/name...` names the asset's table", default=True
    )
    platform_instance_map: Mapping[StrictStr, StrictStr] = field(
        default_factory=dict,
        metadata={
            "meaning": "platform to instance, such as `{snowflake: eu}`, for the urns of tables"
        },
    )
    convert_urns_to_lowercase: StrictBool = option(
        "lower-case the names in the urns of tables", default=False
    )
    use_dbt_datasets: StrictBool = option(
        "dbt's tests are of the datasets of DataHub's dbt source, if you run that as well, and not "
        "of tables",
        default=False,
    )
    connect_ops_to_ops: StrictBool = option(
        "add edges between ops in the order of execution", default=False
    )
    enable_asset_query_metadata_parsing: StrictBool = option(
        "read lineage from the SQL in `Query` metadata", default=True
    )
    emit_queries: StrictBool = option("send queries as entities", default=False)
    emit_assets: StrictBool = option(
        "if false, jobs are connected to the tables directly and assets are not sent",
        default=True,
    )
    materialize_dependencies: StrictBool = option(
        "send a `datasetKey` for each dependency", default=False
    )
    remove_wiped_assets: StrictBool = option("mark a wiped asset as removed", default=False)
    job_pattern: Pattern = option(
        "`{allow: [regex], deny: [regex]}`, as in DataHub's recipes: jobs whose runs "
        'are sent. The run tag `datahub/ignore: "true"` excludes a single run',
        default=Pattern(),
    )
    asset_pattern: Pattern = option(
        "the same for assets. A run that works on excluded assets only is not sent",
        default=Pattern(),
    )
    urn_prefix: StrictStr | None = option(
        "replaces the first part of a job's urn. By default this is the module of the "
        "code location, else its name, else the file (`x.py/<job>`), and `prod` for "
        "jobs executed in a program's own process",
        default=None,
    )
    is_cloud: StrictBool | None = option(
        "overrides what the environment says about Dagster+", default=None
    )
    branch: StrictStr | None = option("overrides the branch deployment's name", default=None)
    emit_mode: Annotated[str, one_of(*EMIT_MODES)] = option(
        "DataHub's emit mode: `SYNC_PRIMARY`, `SYNC_WAIT`, `ASYNC` or `ASYNC_WAIT`",
        default="SYNC_PRIMARY",
    )
    dispatch: Annotated[Dispatch, one_of(*get_args(Dispatch))] = option(
        "`auto`: in the daemon; `worker`: only in `datahub-eventlog worker`; `off`: capture only",
        default="auto",
    )
    poll_interval: PositiveDuration = option(
        "how often a dispatcher looks for due runs", default=timedelta(seconds=1)
    )
    touch_interval: Duration = option(
        "how often a run that goes on is marked in the ledger", default=timedelta(seconds=5)
    )
    exit_timeout: Duration = option(
        "how long a run's own process may deliver at its end; 0 disables it",
        default=timedelta(seconds=10),
    )
    max_attempts: Annotated[StrictInt, Field(ge=1)] = option(
        "attempts before a run that can't be translated is parked", default=10
    )
    retention: PositiveDuration = option(
        "how long rows of settled runs stay in the ledger", default=timedelta(days=30)
    )
    resend_after: Duration = option(
        "after this time, unchanged state is sent again", default=timedelta(days=1)
    )
    redact: Redaction = option(
        "`{patterns: [regex], keys: [name], enabled: bool}`: additional secrets to "
        "hide, beside passwords, tokens and keys",
        default=Redaction(),
    )
    catalog: CatalogOptions = option(
        "`{enabled: bool, interval: seconds, remove_stale_metadata: bool, "
        "fail_safe_threshold: percent}`: what code locations define is sent whenever they are "
        "loaded, and what they define no longer is marked as removed",
        default=CatalogOptions(),
    )
    verify: VerifyOptions = option(
        "`{sample: runs, interval: seconds}`: so many delivered runs are compared with what "
        "DataHub holds, and what it lacks is sent again",
        default=VerifyOptions(),
    )
    health: HealthOptions = option(
        "`{checks: bool, freshness: bool, failed_materializations: bool, backfills: bool}`: what "
        "is sent of asset checks, freshness policies, failed materializations and backfills",
        default=HealthOptions(),
    )
    incidents: IncidentOptions = option(
        "`{checks: [error, warn, blocking], freshness: bool, runs: bool}`: failed checks, missed "
        "freshness policies and failed runs open incidents, which are resolved when it is over",
        default=IncidentOptions(),
    )
    debug_mode: StrictBool = option("log every proposal at DEBUG", default=False)


@dataclass(frozen=True)
class TargetOptions:
    """The options that name a target, of which only one may be set."""

    datahub_client_config: RestTarget | None = option(
        "DataHub's REST API: `server`, `token`, `timeout_sec`, `extra_headers`, "
        "`ca_certificate_path`, `client_certificate_path`, `client_key_path`, "
        "`disable_ssl_verification`",
        default=None,
    )
    datahub_kafka_config: KafkaBlock | None = option(
        "Kafka: `connection` with `bootstrap`, `schema_registry_url`, "
        "`schema_registry_config`, `producer_config`; and `topic_routes`",
        default=None,
    )
    datahub_file_config: FileTarget | None = option(
        "files: `path` is a folder; each run is one file, readable by `datahub ingest mcps`",
        default=None,
    )


TARGETS = tuple(target.name for target in fields(TargetOptions))


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
        for declaration in fields(owner):
            name, meaning = declaration.name, declaration.metadata.get("meaning")
            if meaning is not None:
                annotation = _without_none(hints[name])
                declared[name] = Option(name, annotation, getattr(defaults, name), meaning)
    return declared


def _without_none(annotation: Any) -> Any:
    """The type of what may be written: None only stands for an option that is not set."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (member for member in get_args(annotation) if member is not NoneType)
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
