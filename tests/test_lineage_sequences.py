"""Lineage over several runs of the same code, and of code that changes, as DataHub ends up with it.

All parts are real: the runs, the ledger, the dispatcher, and a receiver for DataHub.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import dagster as dg
import pytest
from catalog import unordered
from datahub.metadata.schema_classes import UpstreamClass
from datahub.specific.datajob import DataJobPatchBuilder
from datahub.specific.dataset import DatasetPatchBuilder
from deployment import sqlite_yaml
from instances import configured
from redelivery import DataHub

from datahub_eventlog.config import Config, RestTarget
from datahub_eventlog.sinks import connect
from datahub_eventlog.source import Source
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.aspects import additions, patches
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import Proposal

Lineage: TypeAlias = Mapping[str, Mapping[str, Sequence[str]]]
"""By the names of ops and datasets: what they read, write and come from."""

IN_PROCESS: dict[str, Any] = {"execution": {"config": {"in_process": {}}}}


class Lineages(DataHub):
    """DataHub, and what lineage it has."""

    def emit(self, *proposals: Proposal) -> None:
        """Tell DataHub what is not Dagster's."""
        sink = connect(RestTarget(self.receiver.url))
        assert not sink.emit(proposals)
        sink.close()

    def tags_and_owners(self, urn: str) -> set[str]:
        """The urns of both."""
        tags = (self.receiver.aspect(urn, "globalTags") or {}).get("tags", ())
        owners = (self.receiver.aspect(urn, "ownership") or {}).get("owners", ())
        return {tag["tag"] for tag in tags} | {owner["owner"] for owner in owners}

    def lineage(self) -> Lineage:
        """What is not empty of it."""
        actual: dict[str, dict[str, list[str]]] = {}
        for urn, aspects in self.receiver.state().items():
            for side, names in _sides(aspects).items():
                if names:
                    actual.setdefault(_name(urn), {})[side] = names
        return actual


def _sides(aspects: Mapping[str, Any]) -> Mapping[str, list[str]]:
    jobs = aspects.get("dataJobInputOutput") or {}
    tables = aspects.get("upstreamLineage") or {}
    return {
        "reads": _names(jobs.get("inputDatasetEdges"), "destinationUrn"),
        "writes": _names(jobs.get("outputDatasetEdges"), "destinationUrn"),
        "after": _names(jobs.get("inputDatajobEdges"), "destinationUrn"),
        "from": _names(tables.get("upstreams"), "dataset"),
    }


def _names(edges: Any, field: str) -> list[str]:
    return sorted(_name(edge[field]) for edge in edges or ())


def _name(urn: str) -> str:
    """Of a job its op, of a dataset its name."""
    if ":dataJob:" in urn:
        return urn.rpartition("/")[2].rstrip(")")
    return urn.split(",")[1]


# -------------------------------------------------------------------------------------------- steps


@dataclass(frozen=True)
class Step:
    """A run, and what lineage there is when it has been delivered."""

    what: str
    execute: Callable[[dg.DagsterInstance], str]
    lineage: Lineage


class Stores(dg.IOManager):
    """Says where it keeps things, but keeps none."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        context.add_output_metadata({"path": dg.MetadataValue.path(f"s3://bucket/{obj}")})

    def load_input(self, context: dg.InputContext) -> str:
        return "loaded"


def _ops(*, place: str = "one", fails: str | None = None) -> dg.JobDefinition:
    """A job whose first op writes to that place, and of whose ops one may fail."""

    def work(name: str) -> None:
        if name == fails:
            raise dg.Failure("on purpose")

    @dg.op
    def first() -> str:
        work("first")
        return place

    @dg.op(ins={"taken": dg.In(metadata={"datahub.inputs": [_table("declared")]})})
    def second(taken: str) -> str:  # noqa: ARG001
        work("second")
        return "two"

    @dg.op
    def third(taken: str) -> str:  # noqa: ARG001
        work("third")
        return "three"

    @dg.job(name="chain", resource_defs={"io_manager": Stores()})
    def chain() -> None:
        third(second(first()))

    return chain


def _table(name: str) -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:postgres,{name},PROD)"


def _run(job: dg.JobDefinition, **options: Any) -> Callable[[dg.DagsterInstance], str]:
    def execute(instance: dg.DagsterInstance) -> str:
        result = job.execute_in_process(instance=instance, raise_on_error=False, **options)
        return result.run_id

    return execute


def _chain(place: str = "one") -> Lineage:
    return {
        "first": {"writes": [f"bucket/{place}"]},
        "second": {"reads": [f"bucket/{place}", "declared"], "writes": ["bucket/two"]},
        "third": {"reads": ["bucket/two"], "writes": ["bucket/three"]},
    }


TAKEN = {"ops": {"third": {"inputs": {"taken": "anything"}}}}
OPS = (
    Step("a failed run says what is declared", _run(_ops(fails="first")), {
        "second": {"reads": ["declared"]},
    }),
    Step("a complete run says all", _run(_ops()), _chain()),
    Step("a run that fails in the middle", _run(_ops(fails="second")), _chain()),
    Step("a run that fails at once", _run(_ops(fails="first")), _chain()),
    Step("a run of one op", _run(_ops(), op_selection=["third"], run_config=TAKEN), _chain()),
    Step("a run of the first", _run(_ops(), op_selection=["first"]), _chain()),
    Step("another place", _run(_ops(place="other")), _chain("other")),
    Step("a failing run after that", _run(_ops(place="other", fails="third")), _chain("other")),
)  # fmt: skip


def _assets(
    *, deps: Sequence[str] = ("raw",), query: str = "", fails: bool = False
) -> Sequence[dg.AssetsDefinition]:
    @dg.asset
    def raw() -> None: ...

    @dg.asset
    def other() -> None: ...

    @dg.asset(deps=list(deps))
    def refined() -> dg.MaterializeResult[None]:
        if fails:
            raise dg.Failure("on purpose")
        urn = "urn:li:dataset:(urn:li:dataPlatform:snowflake,db.s.refined,PROD)"
        stated = {"Query": query, "datahub_urn": urn} if query else {}
        return dg.MaterializeResult(metadata=stated)

    @dg.multi_asset(
        specs=[
            dg.AssetSpec("left", deps=["refined"], skippable=True),
            dg.AssetSpec("right", deps=["refined"], skippable=True),
        ],
        can_subset=True,
    )
    def both(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        for key in sorted(context.selected_asset_keys):
            yield dg.MaterializeResult(asset_key=key)

    return [raw, other, refined, both]


def _materialize(*selection: str, **options: Any) -> Callable[[dg.DagsterInstance], str]:
    def execute(instance: dg.DagsterInstance) -> str:
        chosen = list(selection) or None
        result = dg.materialize(
            _assets(**options), instance=instance, selection=chosen, raise_on_error=False
        )
        return result.run_id

    return execute


def _graph(*deps: str, tables: Sequence[str] = ()) -> Lineage:
    upstream = sorted({*deps, *tables})
    actual = {
        "raw": {"writes": ["raw"]},
        "other": {"writes": ["other"]},
        "refined": {"reads": sorted(deps), "writes": ["refined"], "from": upstream},
        "both": {"reads": ["refined"], "writes": ["left", "right"]},
        "left": {"from": ["refined"]},
        "right": {"from": ["refined"]},
    }
    return {**actual, "db.s.refined": {"from": ["refined"]}} if tables else actual


INSERT = "INSERT INTO db.s.refined SELECT a FROM db.s.{}"

ASSETS = (
    Step("all of them", _materialize(), _graph("raw")),
    Step("one that fails", _materialize(fails=True), _graph("raw")),
    Step("one of a multi-asset", _materialize("left"), _graph("raw")),
    Step("one asset", _materialize("refined"), _graph("raw")),
    Step("more to depend on", _materialize(deps=["raw", "other"]), _graph("other", "raw")),
    Step("less to depend on", _materialize("refined", deps=["other"]), _graph("other")),
    Step(
        "SQL that reads a table",
        _materialize("refined", deps=["other"], query=INSERT.format("x")),
        _graph("other", tables=["db.s.x"]),
    ),
    Step(
        "other SQL",
        _materialize("refined", deps=["other"], query=INSERT.format("y")),
        _graph("other", tables=["db.s.y"]),
    ),
    Step(
        "a failing run after that",
        _materialize(deps=["other"], fails=True),
        _graph("other", tables=["db.s.y"]),
    ),
)


def _models(*, fails: str = "", deps: str = "up", said: str = "") -> Callable[..., str]:
    """A run of a chain of assets, one of which declares a table that it writes, and may fail."""

    def work(name: str) -> None:
        if name == fails:
            raise dg.Failure("on purpose")

    @dg.asset
    def up() -> None:
        work("up")

    @dg.asset
    def aside() -> None: ...

    @dg.asset(deps=[deps], description=said or None, metadata={"datahub.outputs": [_table("t")]})
    def model() -> dg.MaterializeResult[None]:
        work("model")
        return dg.MaterializeResult(metadata={"rows": len(said)})

    @dg.asset(deps=[model])
    def last() -> None: ...

    def execute(instance: dg.DagsterInstance) -> str:
        result = dg.materialize([up, aside, model, last], instance=instance, raise_on_error=False)
        return result.run_id

    return execute


def _line(dep: str, *, is_made: bool = True) -> Lineage:
    actual: Lineage = {
        "up": {"writes": ["up"]},
        "aside": {"writes": ["aside"]},
        "model": {"reads": [dep], "writes": ["model", "t"], "from": [dep]},
        "last": {"reads": ["model"], "writes": ["last"], "from": ["model"]},
    }
    return {**actual, "t": {"from": ["model"]}} if is_made else actual


MODELS = (
    Step("the first fails and nothing follows", _models(fails="up"), _line("up", is_made=False)),
    Step("the second fails", _models(fails="model"), _line("up", is_made=False)),
    Step("a complete run", _models(), _line("up")),
    Step("the second fails again", _models(fails="model"), _line("up")),
    Step("it depends on something else", _models(deps="aside", said="all"), _line("aside")),
    Step("and fails after that", _models(deps="aside", said="all", fails="up"), _line("aside")),
)

SEQUENCES = {"ops": OPS, "assets": ASSETS, "models": MODELS}


# -------------------------------------------------------------------------------------------- tests


@dataclass(frozen=True)
class History:
    """The runs of a sequence, executed, and how to deliver them anew."""

    steps: Sequence[Step]
    runs: Sequence[str]
    instance: dg.DagsterInstance
    directory: Path
    numbers: Iterator[int]

    def datahub(self, **options: Any) -> Lineages:
        file = self.directory / f"ledger-{next(self.numbers)}"
        return Lineages(self.instance, file, Config(**options))

    @cached_property
    def state_in_order(self) -> Any:
        return self.state_after(self.runs)

    def state_after(self, order: Sequence[str]) -> Any:
        """All that DataHub has when the runs have been delivered in that order."""
        with self.datahub() as datahub:
            for run_id in order:
                datahub.deliver(run_id)
            assert datahub.lineage() == self.steps[-1].lineage
            return unordered(datahub.receiver.state())


@pytest.fixture(scope="module", params=SEQUENCES)
def history(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[History]:
    home, ledgers = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("ledgers")
    steps = SEQUENCES[request.param]
    with configured(home, **sqlite_yaml({"dispatch": "off"})) as instance:
        runs = [step.execute(instance) for step in steps]
        yield History(steps, runs, instance, ledgers, itertools.count())


def test_runs_that_know_less_keep_lineage_and_real_changes_replace_it(history: History) -> None:
    with history.datahub() as datahub:
        for step, run_id in zip(history.steps, history.runs, strict=True):
            datahub.deliver(run_id)
            assert (step.what, datahub.lineage()) == (step.what, step.lineage)


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_in_whatever_order_runs_are_delivered_the_state_ends_the_same(
    history: History, seed: int | None
) -> None:
    order = list(reversed(history.runs))
    if seed is not None:
        random.Random(seed).shuffle(order)
    assert history.state_after(order) == history.state_in_order


def test_connected_ops_stay_connected_whatever_fails(history: History) -> None:
    if history.steps is not OPS:
        return
    with history.datahub(connect_ops_to_ops=True) as datahub:
        for run_id in history.runs:
            datahub.deliver(run_id)
        after = {name: each.get("after") for name, each in datahub.lineage().items()}
    assert after == {"first": None, "second": ["first"], "third": ["second"]}


# ------------------------------------------------------------------------------------------ by hand

ROOT = "urn:li:dataset:(urn:li:dataPlatform:dagster,root,PROD)"
QUIET = "urn:li:dataJob:(urn:li:dataFlow:(dagster,prod/alone,PROD),prod/quiet)"


def _root(*deps: str) -> Callable[[dg.DagsterInstance], str]:
    @dg.asset(deps=list(deps))
    def root() -> None: ...

    return lambda instance: dg.materialize([root], instance=instance).run_id


def _quiet(*writes: str) -> Callable[[dg.DagsterInstance], str]:
    """A job whose op writes nothing but what it declares."""

    @dg.op(
        out=dg.Out(dg.Nothing, metadata={"datahub.outputs": [_table(write) for write in writes]})
    )
    def quiet() -> None: ...

    @dg.job(name="alone")
    def alone() -> None:
        quiet()

    return _run(alone)


def _drawn(urn: str) -> Proposal:
    """A person's edge in DataHub."""
    if urn == QUIET:
        builder: Any = DataJobPatchBuilder(urn)
        builder.add_output_dataset(_table("drawn"))
    else:
        builder = DatasetPatchBuilder(urn)
        builder.add_upstream_lineage(UpstreamClass(_table("drawn"), "TRANSFORMED"))
    (proposal,) = patches(builder)
    assert isinstance(proposal, Proposal)
    return proposal


@pytest.mark.parametrize(
    ("urn", "side", "empty", "full"),
    [(ROOT, "from", _root(), _root("raw")), (QUIET, "writes", _quiet(), _quiet("raw"))],
    ids=["asset", "op"],
)
def test_lineage_drawn_by_hand_stays_where_dagster_sent_none_before_and_sends_none(
    tmp_path: Path,
    urn: str,
    side: str,
    empty: Callable[[dg.DagsterInstance], str],
    full: Callable[[dg.DagsterInstance], str],
) -> None:
    home, ledger, name = tmp_path / "home", tmp_path / "ledger", _name(urn)
    home.mkdir()
    with configured(home, **sqlite_yaml({"dispatch": "off"})) as instance:
        runs = [each(instance) for each in (empty, empty, full, empty, empty)]
        with Lineages(instance, ledger, Config(resend_after=timedelta(0))) as datahub:

            def after(run_id: str) -> Sequence[str]:
                datahub.deliver(run_id)
                return datahub.lineage().get(name, {}).get(side, [])

            datahub.emit(_drawn(urn))
            assert after(runs[0]) == ["drawn"]
            assert after(runs[1]) == ["drawn"]
            assert "raw" in after(runs[2])
            assert after(runs[3]) == []
            datahub.emit(_drawn(urn))
            assert after(runs[4]) == ["drawn"]


def test_what_an_extractor_emits_is_beside_that_of_the_run_and_changes_with_it(
    tmp_path: Path,
) -> None:
    def execute(instance: dg.DagsterInstance, rows: str, *deps: str) -> str:
        @dg.asset(deps=list(deps), metadata={"fact": "known"})
        def root() -> None: ...

        return dg.materialize([root], instance=instance, tags={"rows": rows}).run_id

    home, ledger = tmp_path / "home", tmp_path / "ledger"
    home.mkdir()
    config = Config(asset_lineage_extractor="parity_extractor:by_tags")
    with configured(home, **sqlite_yaml({"dispatch": "off"})) as instance:
        runs = {
            execute(instance, "3"): ("3", ["shop.public.orders"]),
            execute(instance, "4"): ("4", ["shop.public.orders"]),
            execute(instance, "3"): ("3", ["shop.public.orders"]),
            execute(instance, "3", "raw"): ("3", ["raw", "shop.public.orders"]),
            execute(instance, "3", "raw"): ("3", ["raw", "shop.public.orders"]),
        }
        with Lineages(instance, ledger, config) as datahub:
            for run_id, expected in runs.items():
                datahub.deliver(run_id)
                aspect: Any = datahub.receiver.aspect(ROOT, "datasetProperties")
                stated = aspect["customProperties"]
                actual = stated["rows"], datahub.lineage()["root"]["from"]
                assert (actual, stated["fact"]) == (expected, "known")


def test_tags_and_owners_that_people_set_stay_beside_those_of_dagster(tmp_path: Path) -> None:
    @dg.asset(tags={"tier": "1"}, owners=["team:shop"])
    def root() -> None: ...

    home, ledger = tmp_path / "home", tmp_path / "ledger"
    home.mkdir()
    again = Config(resend_after=timedelta(0))
    with configured(home, **sqlite_yaml({"dispatch": "off"})) as instance:
        runs = [dg.materialize([root], instance=instance).run_id for _ in range(2)]
        runs += [_quiet()(instance) for _ in range(2)]
        with Lineages(instance, ledger, again) as datahub:
            datahub.deliver(runs[0])
            datahub.deliver(runs[2])
            before = {urn: datahub.tags_and_owners(urn) for urn in (ROOT, QUIET)}
            for urn in (ROOT, QUIET):
                stated = additions(urn, tags=["mine"], owners=["me"])
                datahub.emit(*(each for each in stated if isinstance(each, Proposal)))
            datahub.deliver(runs[1])
            datahub.deliver(runs[3])
            after = {urn: datahub.tags_and_owners(urn) for urn in (ROOT, QUIET)}
    assert before[ROOT] >= {"urn:li:tag:tier:1", "urn:li:corpGroup:shop"}
    mine = {"urn:li:tag:mine", "urn:li:corpuser:me"}
    assert after == {urn: each | mine for urn, each in before.items()}


# ------------------------------------------------------------------------------------------ retries


@dg.op
def makes() -> str:
    return "made"


@dg.op
def breaks_at_first(context: dg.OpExecutionContext, taken: str) -> str:  # noqa: ARG001
    if context.run.parent_run_id is None:
        raise dg.Failure("at first")
    return "mended"


@dg.job(resource_defs={"io_manager": Stores()})
def mending() -> None:
    breaks_at_first(makes())


def test_a_retry_from_failure_completes_the_lineage_and_continues_the_run(tmp_path: Path) -> None:
    home, ledger = tmp_path / "home", tmp_path / "ledger"
    home.mkdir()
    job = dg.reconstructable(mending)
    with configured(home, **sqlite_yaml({"dispatch": "off"})) as instance:
        with dg.execute_job(job, instance, run_config=IN_PROCESS) as result:
            first = result.run_id
        again = dg.ReexecutionOptions.from_failure(first, instance)
        with dg.execute_job(
            job, instance, run_config=IN_PROCESS, reexecution_options=again
        ) as result:
            second = result.run_id
        with Lineages(instance, ledger, Config()) as datahub:
            datahub.deliver(first)
            datahub.deliver(second)
            assert datahub.lineage() == {
                "makes": {"writes": ["bucket/made"]},
                "breaks_at_first": {"writes": ["bucket/mended"]},
            }
            (run,) = (
                each["dataProcessInstanceRelationships"]
                for each in datahub.receiver.state().values()
                if each.get("dataProcessInstanceProperties", {}).get("name") == second
            )
            log = Source(instance).run(second)
            assert log is not None
            assert log.parent_run_id == first
            assert run["upstreamInstances"] == [urns.run_urn(first, Context())]
