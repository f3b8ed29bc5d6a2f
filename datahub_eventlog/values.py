"""The frozen values that the parts hand each other: runs, steps, events, facts, proposals.

Nothing here knows Dagster or DataHub, and nothing here decides anything. Times are UTC epoch
seconds. The JSON in `Metadatum.value` follows `metadata.py`, the only place that makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from datahub_eventlog.event_types import RUN_ENDS

Json: TypeAlias = Any
"""What `json.dumps` takes: None, bool, int, float, str, and lists and dicts of them."""

AssetKey: TypeAlias = tuple[str, ...]
"""The parts of an asset key, as in Dagster's `AssetKey.path`."""


@dataclass(frozen=True)
class Metadatum:
    """One Dagster metadata value: its kind, and its value as JSON.

    Kinds and values: text, md, url, path, notebook, python_artifact, pool: str · int: int ·
    float: float · bool: bool · null: None · timestamp: float, epoch seconds · json: JSON ·
    asset: list of key parts · job: str · run: str ·
    table: {"records": [{column: value}], "columns": [as in table_schema]} ·
    table_schema: {"columns": [{"name", "type", "description", "nullable", "unique",
    "constraints": [str], "tags": {str: str}}], "constraints": [str]} ·
    column_lineage: {column: [{"asset_key": [str], "column": str}]} ·
    code_references: [{"file": str, "line": int | None, "label": str | None} |
    {"url": str, "label": str | None}]
    """

    kind: str
    value: Json


Metadata: TypeAlias = Mapping[str, Metadatum]


ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
"""The statuses of a run whose record has ended."""
BACKFILL_ENDS = frozenset(
    {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}
)
"""The statuses of a backfill that has ended; older Dagsters had COMPLETED for most of them."""
BACKFILL_TAG = "dagster/backfill"
"""The tag by which a run names the backfill that launched it."""
DATA_VERSION = "dagster/data_version"
INPUT_VERSION = "dagster/input_data_version/"
"""Begins the tags of a materialisation that name what it was made of, and in which version."""


@dataclass(frozen=True)
class CheckKey:
    """An asset check: the asset it belongs to, and its name."""

    asset_key: AssetKey
    name: str


@dataclass(frozen=True)
class Run:
    """A run as its record says."""

    run_id: str
    job_name: str
    status: str
    """The value of Dagster's `DagsterRunStatus`, such as STARTED or SUCCESS. It can lag behind
    the events: they decide whether a run has ended."""
    tags: Mapping[str, str] = field(default_factory=dict)
    run_config: Json = None
    root_run_id: str | None = None
    parent_run_id: str | None = None
    location: str | None = None
    repository: str | None = None
    module: str | None = None
    """The code pointer's module, if it is a module that was loaded and not a file."""
    file: str | None = None
    """The name of the code pointer's file without its folder: so Dagster calls the code location
    of a file, unless it is given another name."""
    op_selection: tuple[str, ...] | None = None
    created: float | None = None
    ended: float | None = None
    job_snapshot_id: str | None = None
    plan_snapshot_id: str | None = None
    has_repository_load_data: bool = False


@dataclass(frozen=True)
class Port:
    """An input or output of an op, with the metadata of its definition where known."""

    name: str
    type_name: str = "Any"
    description: str | None = None
    metadata: Metadata = field(default_factory=dict)
    is_required: bool = True
    is_dynamic: bool = False


@dataclass(frozen=True)
class Op:
    """An op node of a job, anywhere in its graphs."""

    handle: str
    """The names of the nodes from the job inwards, joined by dots; aliases, where given."""
    name: str
    """The name of the op's definition."""
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    pool: str | None = None


@dataclass(frozen=True)
class Job:
    """A job as its snapshot says, with all its op nodes in the order of their handles."""

    name: str
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Metadata = field(default_factory=dict)
    owners: tuple[str, ...] = ()
    ops: tuple[Op, ...] = ()
    is_part: bool = False
    """Only a part of the job's ops was selected for the run."""


@dataclass(frozen=True)
class StepOutput:
    """An output of a planned step."""

    name: str
    asset_key: AssetKey | None = None
    check: CheckKey | None = None


@dataclass(frozen=True)
class Step:
    """A step of the execution plan."""

    key: str
    """As in the plan: of a mapped step it ends in `[?]`."""
    handle: str
    """The handle of its op node."""
    upstream: tuple[str, ...] = ()
    """The keys of the steps whose outputs it takes, sorted."""
    outputs: tuple[StepOutput, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a run or a step failed, will be retried, or was skipped."""

    message: str
    """The first line of the error, with its class; without a stack trace."""
    reason: str | None = None
    """Dagster's RunFailureReason or the like."""
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True)
class Materialization:
    """An asset was materialised or observed (see `Event.type`)."""

    asset_key: AssetKey
    partition: str | None = None
    description: str | None = None
    metadata: Metadata = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    """Dagster's own among them: `dagster/data_version`, `dagster/input_data_version/<key>`..."""

    @property
    def made_of(self) -> Iterator[AssetKey]:
        """The assets whose versions Dagster has noted beside it."""
        for name in self.tags:
            if name.startswith(INPUT_VERSION):
                yield tuple(name.removeprefix(INPUT_VERSION).split("/"))


@dataclass(frozen=True)
class MaterializationFailure:
    """A planned materialisation did not happen, as Dagster itself says where that is stored."""

    asset_key: AssetKey
    partition: str | None = None
    is_failure: bool = True
    """False for what was left out on purpose."""
    reason: str | None = None
    """Dagster's AssetMaterializationFailureReason."""
    description: str | None = None
    will_retry: bool | None = None


@dataclass(frozen=True)
class Planned:
    """An asset or check that the run is to produce."""

    asset_key: AssetKey
    check_name: str | None = None
    partition: str | None = None


@dataclass(frozen=True)
class Handled:
    """An output that an I/O manager stored (HANDLED_OUTPUT)."""

    output: str
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """An input that an I/O manager loaded (LOADED_INPUT)."""

    input: str
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """An asset check's result."""

    check: CheckKey
    passed: bool
    severity: str = "ERROR"
    """Dagster's AssetCheckSeverity: WARN or ERROR."""
    blocking: bool | None = None
    description: str | None = None
    partition: str | None = None
    metadata: Metadata = field(default_factory=dict)
    target_run_id: str | None = None
    """The run of the materialisation that was judged."""
    target_time: float | None = None


@dataclass(frozen=True)
class Wiped:
    """An asset's events were wiped, wholly or for some partitions."""

    asset_key: AssetKey
    partitions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class FreshnessChange:
    """Dagster found that an asset meets its freshness policy, or does not meet it any more."""

    asset_key: AssetKey
    state: str
    """Dagster's FreshnessState: PASS, WARN, FAIL, UNKNOWN or NOT_APPLICABLE."""
    previous: str
    time: float
    """When it was found."""


EventData: TypeAlias = (
    Failure
    | Materialization
    | MaterializationFailure
    | Planned
    | Handled
    | Loaded
    | Evaluation
    | Wiped
    | FreshnessChange
)


@dataclass(frozen=True)
class Event:
    """An event of the log that matters to DataHub."""

    storage_id: int
    type: str
    """The *name* of Dagster's DagsterEventType, such as RUN_SUCCESS or STEP_UP_FOR_RETRY."""
    time: float
    step_key: str | None = None
    data: EventData | None = None

    @property
    def ends_run(self) -> bool:
        """Whether the run is over with it."""
        return self.type in RUN_ENDS


@dataclass(frozen=True)
class AssetFacts:
    """What only an asset's definition says. What the definition leaves open is empty."""

    key: AssetKey
    group: str | None = None
    owners: tuple[str, ...] = ()
    """E-mail addresses, and teams as `team:<name>`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    deps: tuple[AssetKey, ...] = ()
    description: str | None = None
    code_version: str | None = None
    partitions: str | None = None
    """The partitions definition in words, such as `Daily, starting 2024-01-01 UTC.`"""
    automation: str | None = None
    freshness: Json = None
    backfill: str | None = None
    metadata: Metadata = field(default_factory=dict)
    checks: tuple[CheckFacts, ...] = ()
    io_manager: str | None = None
    is_external: bool = False


@dataclass(frozen=True)
class CheckFacts:
    """What only a check's definition says."""

    check: CheckKey
    description: str | None = None
    blocking: bool = False
    metadata: Metadata = field(default_factory=dict)
    dbt: DbtTest | None = None
    """The test of dbt that it is, if the project's manifest was there to look it up."""
    is_of_dbt: bool = False
    """It is a test of dbt, whether or not it is known which."""


@dataclass(frozen=True)
class DbtTest:
    """A test of dbt, as the project's manifest describes it, on one of the nodes it depends on."""

    unique_id: str
    name: str
    test: str = ""
    """The name of a generic test, after its package's if it has one; empty for a singular test."""
    arguments: Mapping[str, Json] = field(default_factory=dict)
    upstream: str | None = None
    """The unique id of the node that the check's asset is."""
    upstreams: int = 1
    """How many nodes it depends on."""
    dataset: str | None = None
    """The upstream node's database, schema and table, joined by dots, as dbt writes them."""
    severity: str | None = None
    code: str | None = None
    description: str | None = None

    @property
    def column(self) -> str | None:
        """The column that it is about, if it is about one."""
        column = self.arguments.get("column_name")
        return column if isinstance(column, str) and column else None


@dataclass(frozen=True)
class PortFacts:
    """Definition metadata of an op's inputs and outputs, by their names."""

    inputs: Mapping[str, Metadata] = field(default_factory=dict)
    outputs: Mapping[str, Metadata] = field(default_factory=dict)


@dataclass(frozen=True)
class Definitions:
    """The facts of a run that only its definitions hold, taken in the process that had them."""

    assets: Mapping[AssetKey, AssetFacts] = field(default_factory=dict)
    """The run's own assets, and those directly upstream of them."""
    ports: Mapping[str, PortFacts] = field(default_factory=dict)
    """By the handle of the op node; only those that have metadata."""
    job_description: str | None = None
    job_owners: tuple[str, ...] = ()
    job_tags: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False
    """Some facts were left out because there were too many."""


@dataclass(frozen=True)
class RunLog:
    """Everything about a run that its translation needs, as one value.

    `events` can be iterated more than once; they come in the order of their storage ids.
    `definitions` is None where nobody could take them (an old run, a backfill of history).
    """

    run: Run
    job: Job | None
    steps: tuple[Step, ...]
    events: Sequence[Event]
    definitions: Definitions | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the run's terminal event, or failing that its record, says that it is over."""
        return self.run.status in ENDED or any(event.ends_run for event in self.events)


@dataclass(frozen=True)
class Backfill:
    """Runs that were launched together, for many partitions, as Dagster's record of them says."""

    backfill_id: str
    status: str | None = None
    """The value of Dagster's `BulkActionStatus`; None without a record that can be read."""
    created: float | None = None
    ended: float | None = None
    title: str | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    """Why it failed, if that was not for its runs."""
    job_name: str | None = None
    assets: tuple[AssetKey, ...] = ()
    """Of a backfill of assets; then there is no job."""
    partitions: int | None = None
    """How many were asked for; of assets, those of each asset."""
    partitions_succeeded: int | None = None
    partitions_failed: int | None = None
    runs: int = 0
    run: Run | None = None
    """One of its runs: it names the code that the job is from."""

    @property
    def has_ended(self) -> bool:
        """Whether Dagster launches no more runs of it, and all of them have ended."""
        return self.status in BACKFILL_ENDS


@dataclass(frozen=True)
class CodeRepository:
    """Where definitions come from; a run of one of its jobs names the same in `Run`."""

    location: str
    name: str
    module: str | None = None
    """As in `Run.module`."""
    file: str | None = None
    """As in `Run.file`."""


@dataclass(frozen=True)
class Trigger:
    """A schedule or a sensor, which launches runs of a job."""

    name: str
    kind: str
    """`schedule`, or Dagster's SensorType in lower case, such as `asset` or `automation`."""
    is_running: bool
    cron: tuple[str, ...] = ()
    """Of a schedule: its cron expressions."""
    timezone: str | None = None
    interval_seconds: float | None = None
    """Of a sensor: the least time between two evaluations."""
    description: str | None = None


@dataclass(frozen=True)
class CatalogJob:
    """A job as its code location defines it, whether or not it ever ran."""

    job: Job
    steps: tuple[Step, ...] = ()
    """A step for each op node, as a plan of the whole job has it; key and handle are equal."""
    assets: tuple[AssetFacts, ...] = ()
    """What its ops make and what those depend on, without columns and column lineage."""
    triggers: tuple[Trigger, ...] = ()


@dataclass(frozen=True)
class CatalogPart:
    """Some of a repository's definitions, few enough to be in memory at once."""

    repository: CodeRepository
    assets: tuple[AssetFacts, ...] = ()
    upstream: tuple[AssetFacts, ...] = ()
    """The assets directly upstream that are not among `assets`, without columns."""
    jobs: tuple[CatalogJob, ...] = ()
    shared: tuple[AssetKey, ...] = ()
    """Assets that the repository defines as well as another one, which delivers them."""


class Change(Enum):
    """DataHub's change types that we use."""

    UPSERT = "UPSERT"
    CREATE = "CREATE"
    """Written only where DataHub does not have the aspect yet."""
    PATCH = "PATCH"


IF_ABSENT: Mapping[str, str] = {"If-None-Match": "*"}
"""Without it, DataHub refuses to create what is there already."""


@dataclass(frozen=True)
class Proposal:
    """One MetadataChangeProposal, serialised once.

    `body` is the aspect as DataHub's JSON (what `GenericAspect.value` carries), or for a PATCH
    its JSON patch, with sorted keys and no spaces: equal bodies mean equal content.
    """

    urn: str
    entity_type: str
    aspect: str
    body: str
    change: Change = Change.UPSERT
    time: float | None = None
    """Of a state aspect: the time of the event it comes from; older never overwrites newer.
    A patch with a time adds to the state of that moment. None for what is always sent:
    instances, run events, timeseries, and patches that add whatever the order."""
    run_id: str = ""
    """The run that it speaks of, for system metadata."""
    is_vacant: bool = False
    """The aspect is empty. It is sent only to take back what was sent before: where nothing was
    sent, what people entered in DataHub is theirs."""
    topic: str = ""
    """Of a patch: the subject that it covers as a whole. A newer patch on the same topic replaces
    it, whatever parts of the aspect the two set. Of a CREATE: the topic of the patches that change
    what is created; it gives way to a newer one of them."""
    transition: str = ""
    """The state, such as RESOLVED, that it brings the entity to, if it is sent only when that
    changes: what people change meanwhile stays, however often the rest is delivered."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What DataHub obeys in writing it; they are no headers of the HTTP request."""
        return IF_ABSENT if self.change is Change.CREATE else {}


@dataclass(frozen=True)
class Problem:
    """A fact that could not be translated and was left out; the rest of the run is delivered."""

    urn: str
    aspect: str
    reason: str
