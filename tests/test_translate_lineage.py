from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from catalog import Catalog, edges, unordered
from hypothesis import given
from hypothesis import strategies as st
from logs import (
    RUN_ID,
    asset_facts,
    broke,
    declares,
    event,
    facts,
    failed,
    json_of,
    loaded,
    log,
    materialized,
    op,
    path_of,
    prefixes,
    ran,
    run,
    step,
    succeeded,
    text,
    wrote,
    yielded,
)

from datahub_eventlog.config import Config, Pattern
from datahub_eventlog.translate import run_part, translate
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.datasets import Datasets
from datahub_eventlog.translate.lineage.asset_ports import AssetDatasets
from datahub_eventlog.translate.urns import asset_urn, job_urn, step_urn
from datahub_eventlog.values import (
    Change,
    Definitions,
    Event,
    Op,
    Port,
    PortFacts,
    Proposal,
    RunLog,
    Step,
)

HERE = Context()
A, B, C = (f"urn:li:dataset:(urn:li:dataPlatform:s3,b/{name},PROD)" for name in "abc")
ORDERS, SALES, EXTERNAL = (asset_urn((name,), HERE) for name in ("orders", "sales", "external"))
KNOWN = Definitions()


def delivered(*logs: RunLog, **options: Any) -> Catalog:
    """What DataHub knows after such runs, one after the other."""
    catalog = Catalog()
    for index, each in enumerate(logs):
        later = [replace(one, time=one.time + index * 1000) for one in each.events]
        catalog.deliver(translate(replace(each, events=later), Context(Config(**options))))
    return catalog


def of_job(catalog: Catalog, handle: str) -> tuple[list[str], list[str]]:
    """The input and output datasets of an op."""
    value = catalog.of(job_urn(run(), handle, HERE), "dataJobInputOutput")
    return edges(value, "inputDataset"), edges(value, "outputDataset")


def op_lineage(whole: RunLog, handle: str) -> Proposal:
    actual = [
        each
        for each in translate(whole, HERE)
        if isinstance(each, Proposal)
        and (each.urn, each.aspect) == (job_urn(run(), handle, HERE), "dataJobInputOutput")
    ]
    (only,) = actual
    return only


def ports(handle: str, **sides: Any) -> Definitions:
    return Definitions(ports={handle: PortFacts(**sides)})


def a_then_b(*events: Event, **more: Any) -> RunLog:
    """The job of the ops `load` and, downstream, `pack`."""
    more.setdefault("definitions", KNOWN)
    return log(*events, steps=[step("load"), step("pack", "load")], **more)


WHOLE = a_then_b(*succeeded(*ran("load", wrote("s3://b/a")), *ran("pack", wrote("s3://b/b"))))


# What is found


def test_an_op_reads_what_it_loads_and_what_ops_upstream_wrote() -> None:
    catalog = delivered(
        a_then_b(
            *succeeded(
                *ran("load", wrote("s3://b/a")),
                *ran("pack", loaded("s3://b/c"), wrote("s3://b/b")),
            )
        )
    )
    assert of_job(catalog, "load") == ([], [A])
    assert of_job(catalog, "pack") == ([A, C], [B])


def test_datasets_that_lineage_names_come_into_being() -> None:
    catalog = delivered(WHOLE)
    key = {"platform": "urn:li:dataPlatform:s3", "name": "b/a", "origin": "PROD"}
    assert catalog.of(A, "datasetKey") == key
    assert catalog.urns("dataset") == [A, B]


def test_paths_are_left_out_if_not_wanted_or_only_scratch() -> None:
    assert of_job(delivered(WHOLE, capture_input_output=False), "pack") == ([], [])
    scratch = a_then_b(*succeeded(*ran("load", wrote(f"/tmp/{RUN_ID}/load/result"))))
    assert of_job(delivered(scratch), "load") == ([], [])


def test_lineage_is_of_the_time_of_the_steps_success() -> None:
    proposal = op_lineage(WHOLE, "load")
    assert proposal.change is Change.UPSERT
    assert proposal.time == WHOLE.events[3].time


def test_datasets_of_asset_events_are_lineage() -> None:
    seen = {"load": Datasets(frozenset({EXTERNAL}), frozenset({ORDERS}))}
    catalog = Catalog().deliver(run_part(WHOLE, AssetDatasets(seen), HERE))
    assert of_job(catalog, "load") == ([EXTERNAL], [ORDERS, A])
    assert EXTERNAL not in catalog.urns("dataset")


def test_what_the_extractor_returns_is_lineage() -> None:
    lineages = {"pack": (frozenset({C, "orders"}), frozenset({ORDERS}))}
    here = Context(lineages={**lineages, "no such step": (frozenset({A}), frozenset())})
    catalog = Catalog().deliver(run_part(WHOLE, AssetDatasets(), here))
    assert of_job(catalog, "pack") == ([A, C], [ORDERS, B])
    assert ORDERS in catalog.urns("dataset")
    (problem,) = catalog.problems
    assert problem.urn == job_urn(run(), "pack", HERE)
    assert "asset_lineage_extractor: 'orders' is not a dataset urn" in problem.reason


def test_a_step_run_has_the_lineage_of_its_op() -> None:
    catalog = delivered(WHOLE)
    urn = step_urn(run(), "pack", HERE)
    assert catalog.of(urn, "dataProcessInstanceInput") == {"inputs": [A]}
    assert catalog.of(urn, "dataProcessInstanceOutput") == {"outputs": [B]}


@pytest.mark.parametrize(("is_asked", "expected"), [(False, []), (True, ["load"])])
def test_ops_are_connected_to_ops_only_if_asked(is_asked: bool, expected: list[str]) -> None:  # noqa: FBT001
    catalog = delivered(WHOLE, connect_ops_to_ops=is_asked)
    value = catalog.of(job_urn(run(), "pack", HERE), "dataJobInputOutput")
    assert edges(value, "inputDatajob") == [job_urn(run(), each, HERE) for each in expected]


# What is declared


@pytest.mark.parametrize(
    "whole",
    [
        a_then_b(*succeeded(*ran("load"), *ran("pack"))),
        a_then_b(*broke(*failed("load"))),
        a_then_b(event("RUN_ENQUEUED"), event("RUN_CANCELED")),
    ],
    ids=["succeeded", "failed", "canceled"],
)
def test_declared_datasets_count_whatever_happened(whole: RunLog) -> None:
    declared = ports(
        "load",
        inputs={"x": declares(A, B)},
        outputs={"result": declares(C, side="outputs")},
    )
    catalog = delivered(replace(whole, definitions=declared))
    assert of_job(catalog, "load") == ([A, B], [C])
    assert catalog.urns("dataset") == [A, B, C]


def test_declarations_are_found_wherever_dagster_lets_people_write_them() -> None:
    asset = asset_facts("orders", metadata={**declares(A), **declares(B, side="outputs")})
    on_input = Op("load", "load", inputs=(Port("x", metadata={"datahub.inputs": text(C)}),))
    whole = log(
        *succeeded(*ran("load", materialized("orders"))),
        ops=[on_input],
        steps=[step("load", asset="orders")],
        definitions=facts(asset),
    )
    assert of_job(delivered(whole), "load") == ([A, C], [ORDERS, B])


def test_a_declaration_that_is_no_urn_costs_only_itself() -> None:
    stated = {"datahub.inputs": json_of([A, "orders", 7, "urn:li:tag:x"])}
    whole = a_then_b(*succeeded(*ran("load")), definitions=ports("load", inputs={"x": stated}))
    catalog = delivered(whole)
    assert of_job(catalog, "load") == ([A], [])
    assert len(catalog.problems) == 3
    assert all(
        problem.urn == job_urn(run(), "load", HERE)
        and problem.reason.startswith("datahub.inputs: ")
        for problem in catalog.problems
    )


TABLES = {
    "by its name": (
        {"dagster/table_name": text("db.s.t"), "dagster/storage_kind": text("snowflake")},
        "urn:li:dataset:(urn:li:dataPlatform:snowflake,db.s.t,PROD)",
    ),
    "by its place": (
        {
            "dagster/table_name": text("deltalake.public.t"),
            "table_uri": text("s3://b/a"),
            "dagster/storage_kind": text("deltalake"),
        },
        "urn:li:dataset:(urn:li:dataPlatform:delta-lake,b/a,PROD)",
    ),
    "by its urn": ({"datahub_urn": text(C)}, C),
}


@pytest.mark.parametrize("emit_assets", [True, False])
@pytest.mark.parametrize("case", TABLES)
def test_the_path_that_holds_a_known_table_is_no_dataset(case: str, *, emit_assets: bool) -> None:
    metadata, table = TABLES[case]
    made = (wrote("s3://b/a"), materialized("orders", metadata=metadata))
    whole = log(
        *succeeded(*ran("orders", *made), *ran("sales", loaded("s3://b/a"), wrote("s3://b/b"))),
        steps=[step("orders", asset="orders"), step("sales", "orders", asset="sales")],
        definitions=facts(asset_facts("orders"), asset_facts("sales", "orders")),
    )
    catalog = delivered(whole, emit_assets=emit_assets)
    made_here = ORDERS if emit_assets else table
    assert of_job(catalog, "orders") == ([], [made_here])
    read, written = of_job(catalog, "sales")
    assert B in written
    assert A not in read
    expected = {table, B, *((ORDERS,) if emit_assets else ())}
    assert set(catalog.urns("dataset")) == expected


def test_the_path_of_a_table_that_another_run_made_is_no_dataset() -> None:
    metadata, _ = TABLES["by its name"]
    whole = log(
        *succeeded(*ran("sales", loaded("s3://b/a", "orders"), loaded("s3://b/c", "rest"))),
        steps=[step("sales", asset="sales")],
        definitions=facts(
            asset_facts("orders", metadata=metadata), asset_facts("sales", "orders", "rest")
        ),
    )
    read, _ = of_job(delivered(whole), "sales")
    assert A not in read
    assert C in read


def test_a_path_stays_a_dataset_where_no_table_is_known_or_assets_are_not_sent() -> None:
    metadata, _ = TABLES["by its name"]
    for known, options in (({}, {}), (metadata, {"capture_asset_materialization": False})):
        made = (wrote("s3://b/a"), materialized("orders", metadata=known))
        whole = log(*succeeded(*ran("orders", *made)), steps=[step("orders", asset="orders")])
        assert A in of_job(delivered(whole, **options), "orders")[1]


# What stays


@pytest.mark.parametrize(
    "later",
    [
        a_then_b(*broke(*failed("load"))),
        a_then_b(*broke(*failed("load", wrote("s3://b/a")))),
        a_then_b(*broke(*ran("load", wrote("s3://b/a")), *failed("pack"))),
        a_then_b(event("RUN_START"), event("RUN_CANCELED")),
        a_then_b(*succeeded(*ran("pack"))),
        a_then_b(*succeeded(*ran("load", wrote("s3://b/a")), event("STEP_SKIPPED", "pack"))),
        log(
            *succeeded(*ran("pack")),
            steps=[step("pack")],
            run=run(op_selection=("pack",)),
            definitions=KNOWN,
        ),
        a_then_b(*succeeded(*ran("load"), *ran("pack")), definitions=None),
        a_then_b(*succeeded(*ran("load"), *ran("pack")), definitions=Definitions(is_cut=True)),
    ],
    ids=[
        "failed",
        "failed after it wrote",
        "failed downstream",
        "canceled",
        "retried from failure",
        "skipped",
        "a part of the job",
        "definitions unknown",
        "definitions cut",
    ],
)
def test_a_run_that_knows_less_takes_nothing_away(later: RunLog) -> None:
    catalog = delivered(WHOLE, later)
    assert of_job(catalog, "load") == ([], [A])
    assert of_job(catalog, "pack") == ([A], [B])


def test_a_complete_run_replaces_what_was_known() -> None:
    changed = a_then_b(*succeeded(*ran("load", wrote("s3://b/c")), *ran("pack")))
    catalog = delivered(WHOLE, changed)
    assert of_job(catalog, "load") == ([], [C])
    assert of_job(catalog, "pack") == ([C], [])


def test_an_older_run_puts_nothing_back_over_a_newer_one() -> None:
    catalog = Catalog()
    newer = replace(WHOLE, events=[replace(entry, time=entry.time + 99) for entry in WHOLE.events])
    changed = a_then_b(*succeeded(*ran("load", wrote("s3://b/c")), *ran("pack")))
    part = a_then_b(*succeeded(*ran("pack", wrote("s3://b/c"))))
    for each in (newer, changed, part):
        catalog.deliver(run_part(each, AssetDatasets(), HERE))
    assert of_job(catalog, "load") == ([], [A])
    assert of_job(catalog, "pack") == ([A], [B])


def test_an_output_that_stayed_away_keeps_its_dataset() -> None:
    steps = [step("branch", outputs={"left": None, "right": None})]
    ops = [op("branch", outputs=["left?", "right?"])]

    def taking(*events: Event) -> RunLog:
        return log(*succeeded(*ran("branch", *events)), steps=steps, ops=ops, definitions=KNOWN)

    left, right = wrote("s3://b/a", "left"), wrote("s3://b/b", "right")
    both = delivered(taking(left), taking(right))
    assert of_job(both, "branch") == ([], [A, B])
    changed = delivered(taking(left, right), taking(yielded("left"), right))
    assert of_job(changed, "branch") == ([], [B])


# Assets


def of_assets(*events: Event, definitions: Definitions | None, **more: Any) -> RunLog:
    steps = [step("orders", asset="orders"), step("sales", "orders", asset="sales")]
    return log(*events, steps=steps, definitions=definitions, **more)


DEPS = facts(asset_facts("orders"), asset_facts("sales", "external", "orders"))


def test_an_asset_takes_what_its_definition_depends_on() -> None:
    made = succeeded(
        *ran("orders", materialized("orders"), wrote("s3://b/c")),
        *ran("sales", materialized("sales")),
    )
    catalog = delivered(of_assets(*made, definitions=DEPS))
    assert of_job(catalog, "orders") == ([], [ORDERS, C])
    assert of_job(catalog, "sales") == ([EXTERNAL, ORDERS], [SALES])
    unknown = delivered(of_assets(*made, definitions=None))
    assert of_job(unknown, "sales") == ([ORDERS, C], [SALES])


def test_a_dependency_that_the_pattern_denies_is_no_input() -> None:
    made = succeeded(*ran("orders", materialized("orders")), *ran("sales", materialized("sales")))
    whole = of_assets(*made, definitions=DEPS)
    catalog = delivered(whole, asset_pattern=Pattern(deny=("orders",)))
    assert of_job(catalog, "orders") == ([], [])
    assert of_job(catalog, "sales") == ([EXTERNAL], [SALES])


def test_the_partitions_of_an_asset_lie_in_the_dataset_that_the_asset_is() -> None:
    day, name = "2024-01-02", {"path": path_of("s3://b/a/2024-01-02")}
    made = materialized("orders", metadata=name, partition=day)
    whole = of_assets(
        *succeeded(
            *ran("orders", wrote("s3://b/a/2024-01-02"), made),
            *ran("sales", loaded("s3://b/a/2024-01-01.parquet"), materialized("sales")),
        ),
        definitions=DEPS,
        run=run(tags={"dagster/partition": day}),
    )
    catalog = delivered(whole)
    assert of_job(catalog, "orders") == ([], [ORDERS, A])
    assert of_job(catalog, "sales") == ([EXTERNAL, ORDERS, A], [SALES])
    assert catalog.of(ORDERS, "siblings")["siblings"] == [A]


def test_the_path_of_an_op_that_makes_no_asset_is_a_dataset_as_it_is() -> None:
    whole = a_then_b(
        *succeeded(*ran("load", wrote("s3://b/a/mon"))), run=run(tags={"dagster/partition": "mon"})
    )
    assert of_job(delivered(whole), "load") == ([], [A.replace("b/a", "b/a/mon")])


def test_a_run_of_one_asset_alone_knows_all_of_it() -> None:
    alone = log(
        *succeeded(*ran("sales", materialized("sales"))),
        steps=[step("sales", asset="sales")],
        definitions=DEPS,
    )
    proposal = op_lineage(alone, "sales")
    assert proposal.change is Change.UPSERT
    assert EXTERNAL in proposal.body
    assert ORDERS in proposal.body


def test_a_dependency_that_is_gone_goes() -> None:
    made = of_assets(*succeeded(*ran("sales", materialized("sales"))), definitions=DEPS)
    fewer = facts(asset_facts("orders"), asset_facts("sales", "orders"))
    catalog = delivered(made, replace(made, definitions=fewer))
    assert of_job(catalog, "sales") == ([ORDERS], [SALES])


def test_an_op_that_makes_some_of_its_assets_only_adds() -> None:
    ops = [op("multi", outputs=["orders?", "sales?"])]
    both = {"orders": "orders", "sales": "sales"}
    deps = facts(asset_facts("orders"), asset_facts("sales", "external"))

    def making(outputs: Mapping[str, str | None]) -> RunLog:
        made = [materialized(output) for output in outputs.values() if output]
        steps = [step("multi", outputs=outputs)]
        return log(*succeeded(*ran("multi", *made)), ops=ops, steps=steps, definitions=deps)

    assert op_lineage(making(both), "multi").change is Change.UPSERT
    part = making({"orders": None, "sales": "sales"})
    assert op_lineage(part, "multi").change is Change.PATCH
    assert of_job(delivered(making(both), part), "multi") == ([EXTERNAL], [ORDERS, SALES])


def test_an_asset_of_the_same_op_is_no_input_of_it() -> None:
    whole = log(
        *succeeded(*ran("multi", materialized("orders"), materialized("sales"))),
        steps=[step("multi", outputs={"orders": "orders", "sales": "sales"})],
        definitions=DEPS,
    )
    assert of_job(delivered(whole), "multi") == ([EXTERNAL], [ORDERS, SALES])


def test_an_op_inside_a_graph_of_an_asset_only_adds() -> None:
    whole = log(
        *succeeded(*ran("sales.fetch"), *ran("sales.store", materialized("sales"))),
        steps=[step("sales.fetch"), step("sales.store", "sales.fetch", asset="sales")],
        definitions=DEPS,
    )
    proposals = [each for each in translate(whole, HERE) if isinstance(each, Proposal)]
    fetch = job_urn(run(), "sales.fetch", HERE)
    assert not [
        proposal
        for proposal in proposals
        if (proposal.urn, proposal.aspect) == (fetch, "dataJobInputOutput")
    ]
    assert op_lineage(whole, "sales.store").change is Change.UPSERT


def test_a_check_reads_its_asset() -> None:
    whole = log(
        *succeeded(*ran("orders_check")),
        steps=[step("orders_check", check="orders:is_new")],
        definitions=DEPS,
    )
    assert of_job(delivered(whole), "orders_check") == ([ORDERS], [])
    assert op_lineage(whole, "orders_check").change is Change.UPSERT


def test_a_check_of_an_asset_that_is_not_wanted_reads_nothing() -> None:
    whole = log(
        *succeeded(*ran("orders_check")),
        steps=[step("orders_check", check="orders:is_new")],
        definitions=DEPS,
    )
    catalog = delivered(whole, asset_pattern=Pattern(deny=("orders",)))
    assert of_job(catalog, "orders_check") == ([], [])


@pytest.mark.parametrize("option", ["emit_assets", "capture_asset_materialization"])
def test_without_assets_as_datasets_only_a_run_of_all_of_them_is_complete(option: str) -> None:
    deps = facts(asset_facts("orders"), asset_facts("sales", "orders"))
    together = of_assets(
        *succeeded(
            *ran("orders", materialized("orders"), wrote("s3://b/a")),
            *ran("sales", materialized("sales")),
        ),
        definitions=deps,
    )
    alone = log(
        *succeeded(*ran("sales", materialized("sales"))),
        steps=[step("sales", asset="sales")],
        definitions=deps,
    )
    changed = of_assets(
        *succeeded(*ran("orders", materialized("orders")), *ran("sales", materialized("sales"))),
        definitions=deps,
    )
    options = {option: False}
    assert of_job(delivered(together, **options), "sales") == ([A], [])
    assert of_job(delivered(together, alone, **options), "sales") == ([A], [])
    assert of_job(delivered(together, changed, **options), "sales") == ([], [])


# Mapped ops


DYNAMIC = [step("gen"), step("work[?]", "gen"), step("collect", "work[?]")]


def mapped(*events: Event) -> RunLog:
    return log(*events, steps=DYNAMIC, definitions=KNOWN)


def test_the_lineage_of_a_mapped_op_is_that_of_all_its_steps() -> None:
    whole = mapped(
        *succeeded(
            *ran("gen"),
            *ran("work[x]", wrote("s3://b/a")),
            *ran("work[y]", wrote("s3://b/b")),
            *ran("collect"),
        )
    )
    catalog = delivered(whole)
    assert of_job(catalog, "work") == ([], [A, B])
    assert of_job(catalog, "collect") == ([A, B], [])
    assert op_lineage(whole, "work").time == whole.events[8].time


def test_a_mapped_op_waits_for_the_end_of_the_run() -> None:
    first = [event("RUN_START"), *ran("gen"), *ran("work[x]", wrote("s3://b/a"))]
    assert of_job(delivered(mapped(*first)), "work") == ([], [])
    died = mapped(*first, event("RUN_FAILURE"))
    assert op_lineage(died, "work").change is Change.PATCH
    assert of_job(delivered(died), "work") == ([], [A])


def test_a_step_of_which_no_end_is_known_only_adds() -> None:
    whole = a_then_b(*succeeded(event("STEP_START", "load"), *ran("pack", wrote("s3://b/b"))))
    assert of_job(delivered(WHOLE, whole), "load") == ([], [A])
    assert op_lineage(whole, "pack").change is Change.PATCH


def test_a_mapped_step_that_failed_leaves_the_others_lineage_to_be_added() -> None:
    whole = mapped(*broke(*ran("gen"), *ran("work[x]", wrote("s3://b/a")), *failed("work[y]")))
    assert op_lineage(whole, "work").change is Change.PATCH


# Whatever happens


STEPS = (
    step("load"),
    step("pack", "load"),
    step("gen"),
    step("work[?]", "gen"),
    step("collect", "work[?]"),
    step("orders", asset="orders"),
    step("sales", "orders", asset="sales"),
    step("branch", outputs={"left": None, "right": None}),
    step("right", "branch"),
)
OPS = [
    *(op(planned_step.handle) for planned_step in STEPS if planned_step.key != "branch"),
    op("branch", outputs=["left?", "right?"]),
]
PLANNED = {planned_step.key: planned_step for planned_step in STEPS}
DECLARED = Definitions(
    assets=facts(
        asset_facts("orders"),
        asset_facts("sales", "external", "orders", metadata=declares(C), group="shop"),
    ).assets,
    ports={
        "pack": PortFacts(inputs={"x": declares(C)}),
        "work": PortFacts(outputs={"result": declares(B, side="outputs")}),
    },
)


@dataclass
class Execution:
    """A run as Dagster executes it, with outcomes drawn by Hypothesis."""

    draw: st.DrawFn
    events: list[Event] = field(default_factory=list)
    going: list[str] = field(default_factory=list)
    done: dict[str, str] = field(default_factory=dict)
    is_over: bool = False

    def next(self) -> None:
        actions = [("end", each) for each in self.going]
        actions += [("start", each) for each in self.startable()]
        if not self.is_over:
            actions.append(("stop", self.draw(st.sampled_from(["RUN_FAILURE", "RUN_CANCELED"]))))
        if actions:
            verb, what = self.draw(st.sampled_from(actions))
            getattr(self, verb)(what)

    def startable(self) -> list[str]:
        if self.is_over:
            return []
        keys = [key for planned_step in STEPS for key in self.keys(planned_step)]
        return [key for key in keys if key not in self.done and key not in self.going]

    def keys(self, planned: Step) -> list[str]:
        """The steps that can start, as far as those upstream of them are done."""
        upstream = [self.done.get(each) for each in planned.upstream if "[" not in each]
        mapped = [self.done.get(f"work[{key}]") for key in "xy"]
        if planned.key == "collect" and mapped != ["STEP_SUCCESS"] * 2:
            return []
        if any(each != "STEP_SUCCESS" for each in upstream):
            return []
        name = planned.handle
        return [f"{name}[{key}]" for key in "xy"] if planned.key != name else [name]

    def start(self, key: str) -> None:
        if key == "right" and self.draw(st.booleans()):
            self.done[key] = "STEP_SKIPPED"
            self.events.append(event("STEP_SKIPPED", key))
            return
        self.going.append(key)
        self.events.append(event("STEP_START", key))

    def end(self, key: str) -> None:
        self.events += [replace(each, step_key=key) for each in self.draw(self.doings(key))]
        outcome = self.draw(st.sampled_from(["STEP_SUCCESS", "STEP_FAILURE", "STEP_UP_FOR_RETRY"]))
        self.events.append(event(outcome, key))
        if outcome == "STEP_UP_FOR_RETRY":
            self.events.append(event("STEP_RESTARTED", key))
            return
        self.going.remove(key)
        self.done[key] = outcome

    def doings(self, key: str) -> st.SearchStrategy[list[Event]]:
        outputs = ["left", "right"] if key == "branch" else ["result"]
        asset = PLANNED.get(key, STEPS[0]).outputs[0].asset_key
        some = [wrote(f"s3://b/{name}", output) for name in "ab" for output in outputs]
        some += [loaded("s3://b/c"), *([materialized(asset[0])] if asset else [])]
        return st.lists(st.sampled_from(some), max_size=3)

    def stop(self, how: str) -> None:
        self.is_over = True
        self.events.append(event(how))

    def finish(self) -> None:
        if not self.is_over and not self.going:
            self.stop("RUN_SUCCESS")


@st.composite
def executions(draw: st.DrawFn) -> RunLog:
    execution = Execution(draw, [event("RUN_ENQUEUED"), event("RUN_START")])
    for _ in range(draw(st.integers(0, 25))):
        execution.next()
    execution.finish()
    definitions = draw(st.sampled_from([DECLARED, None]))
    return log(*execution.events, ops=OPS, steps=STEPS, definitions=definitions)


OPTIONS = st.fixed_dictionaries(
    {
        "connect_ops_to_ops": st.booleans(),
        "emit_assets": st.booleans(),
        "materialize_dependencies": st.booleans(),
        "platform_instance": st.sampled_from([None, "east"]),
    }
)


def with_a_past(here: Context) -> Catalog:
    """DataHub after an earlier complete run, in which every op wrote something else."""
    made = [
        *(
            ran(planned_step.key, wrote("s3://b/old"))
            for planned_step in STEPS
            if planned_step.key in {"load", "pack"}
        ),
        ran("branch", wrote("s3://b/old", "left"), yielded("right")),
        *(ran(each) for each in ("gen", "work[x]", "collect", "right")),
        *(ran(each, materialized(each), wrote("s3://b/old")) for each in ("orders", "sales")),
    ]
    events = succeeded(*(each for one in made for each in one))
    past = log(*events, ops=OPS, steps=STEPS, definitions=DECLARED, run=run(run_id="past"))
    earlier = [replace(entry, time=entry.time - 1000) for entry in past.events]
    return Catalog().deliver(translate(replace(past, events=earlier), here))


@given(executions(), OPTIONS, st.sets(st.integers(0, 60), max_size=4))
def test_a_run_that_is_shown_as_it_goes_ends_as_one_that_is_not(
    whole: RunLog, options: dict[str, Any], cuts: set[int]
) -> None:
    here = Context(Config(**options))
    live = with_a_past(here)
    alone = deepcopy(live)
    for index, part in enumerate(prefixes(whole)):
        if index in cuts:
            live.deliver(translate(part, here))
    live.deliver(translate(whole, here))
    alone.deliver(translate(whole, here))
    assert unordered(live.state) == unordered(alone.state)
    assert live.series == alone.series
    assert live.problems == alone.problems


@given(executions(), OPTIONS)
def test_a_run_that_is_delivered_twice_changes_nothing(
    whole: RunLog, options: dict[str, Any]
) -> None:
    here = Context(Config(**options))
    first, second = list(translate(whole, here)), list(translate(whole, here))
    assert first == second
    once = with_a_past(here).deliver(first)
    twice = deepcopy(once).deliver(second)
    assert once.state == twice.state
    assert once.series == twice.series


@given(executions())
def test_a_run_that_did_not_succeed_takes_no_lineage_away(whole: RunLog) -> None:
    before = with_a_past(HERE)
    after = deepcopy(before).deliver(translate(whole, HERE))
    good = {entry.step_key for entry in whole.events if entry.type == "STEP_SUCCESS"}
    for planned in STEPS:
        if planned.handle in good:
            continue
        for was, now in zip(
            of_job(before, planned.handle), of_job(after, planned.handle), strict=True
        ):
            assert set(was) <= set(now)
