"""The picture of a run: nodes, lines, facts, and the page that they stand in."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from logs import event, log, ran, step
from pictures import HOSTILE, ORDERS_TABLE, SOURCE, hostile, shop
from proposals import body

from datahub_eventlog.preview import Edge, Graph, Node, graph_of, page
from datahub_eventlog.preview.sections import Link, Section, duration
from datahub_eventlog.translate import translate
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import Change, Problem, Proposal


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graph_of(shop())


def node(graph: Graph, kind: str, name: str) -> Node:
    (actual,) = (each for each in graph.nodes if (each.kind, each.name) == (kind, name))
    return actual


def lines(graph: Graph) -> set[tuple[str, str, str]]:
    """The edges, by the names of their ends: an op is `op x`, a check `check x`."""
    names = {each.urn: f"{each.kind} {each.name}" for each in graph.nodes}
    return {(names[edge.source], edge.kind, names[edge.target]) for edge in graph.edges}


def section(of: Node, title: str) -> Section:
    (actual,) = (each for each in of.sections if each.title == title)
    return actual


def words(of: Node, title: str) -> list[list[str]]:
    """A section's rows as they are read."""
    rows = section(of, title).rows
    return [[each.text if isinstance(each, Link) else each for each in row] for row in rows]


def test_a_run_is_drawn_as_jobs_ops_assets_datasets_and_checks(graph: Graph) -> None:
    assert {(each.kind, each.name, each.note) for each in graph.nodes} == {
        ("job", "sales", "job · failed"),
        ("op", "orders", "op · succeeded"),
        ("op", "revenue", "op · succeeded"),
        ("op", "mail", "op · failed"),
        ("asset", "orders", "asset"),
        ("asset", "revenue", "asset"),
        ("dataset", "dwh.orders", "snowflake"),
        ("dataset", "shop.public.orders", "postgres"),
        ("check", "amounts", "check · failed"),
    }
    assert graph.title == "sales"
    assert graph.summary[1:] == ("failed", "2023-11-14 22:13:20 UTC", "12.0 s")


def test_its_lines_are_data_flow_sameness_judgement_and_beginnings(graph: Graph) -> None:
    assert lines(graph) == {
        ("job sales", "begins", "op orders"),
        ("dataset shop.public.orders", "lineage", "op orders"),
        ("op orders", "lineage", "asset orders"),
        ("asset orders", "same", "dataset dwh.orders"),
        ("asset orders", "check", "check amounts"),
        ("asset orders", "lineage", "op revenue"),
        ("op revenue", "lineage", "asset revenue"),
        ("op revenue", "order", "op mail"),
    }


def test_the_facts_of_an_asset_are_readable(graph: Graph) -> None:
    orders = node(graph, "asset", "orders")
    assert words(orders, "Columns") == [["amount", "decimal(10,2) not null", "in euros"]]
    assert words(orders, "Is the same as") == [["dwh.orders"]]
    assert words(orders, "Checks") == [["amounts"]]
    assert words(orders, "Owners") == [["data (group)"]]
    assert words(orders, "Tags") == [["asset_group:shop"], ["tier:gold"]]
    assert words(orders, "Rows") == [["3", ""]]
    assert ["revenue"] in words(orders, "Goes into")
    (link,) = (row[1] for row in section(orders, "Properties").rows if row[0] == "runbook")
    assert link == Link("https://example.com/orders", url="https://example.com/orders")
    assert {each.aspect for each in orders.sent} > {"schemaMetadata", "datasetProperties"}


def test_column_lineage_names_columns_and_leads_to_their_datasets(graph: Graph) -> None:
    revenue = node(graph, "asset", "revenue")
    (row,) = section(revenue, "Column lineage").rows
    orders = node(graph, "asset", "orders")
    assert row == ("revenue", "amount", Link("orders", urn=orders.urn))


def test_the_runs_of_an_op_and_the_results_of_a_check_are_shown(graph: Graph) -> None:
    mail = node(graph, "op", "mail")
    assert [row[3:] for row in words(mail, "Runs")] == [["started", ""], ["failed", "1.0 s"]]
    assert ["failure_message", "ValueError: no"] in words(mail, "Run")
    check = node(graph, "check", "amounts")
    assert [row[0] for row in words(check, "Results")] == ["failed"]
    assert ["bad", "2"] in words(check, "Last result")


def test_a_run_that_goes_on_is_shown_as_it_goes() -> None:
    items = list(translate(log(event("RUN_START"), *ran("one"), steps=[step("one")]), Context()))
    actual = graph_of(items)
    assert node(actual, "job", "sales").note == "job · running"
    assert node(actual, "op", "one").note == "op · succeeded"
    assert actual.summary[1] == "running"


def test_a_dataset_that_others_only_name_is_drawn_too() -> None:
    other = "urn:li:dataset:(urn:li:dataPlatform:hive,a%2Cb,DEV)"
    lineage = {"upstreams": [{"dataset": other, "type": "TRANSFORMED"}]}
    actual = graph_of([Proposal(ORDERS_TABLE, "dataset", "upstreamLineage", body(lineage))])
    assert actual.edges == (Edge(other, ORDERS_TABLE, "lineage"),)
    ghost = node(actual, "dataset", "a,b")
    assert ghost.sent == ()
    assert ["environment", "DEV"] in words(ghost, "In DataHub")


def test_what_a_patch_adds_is_drawn_as_what_is_sent_whole() -> None:
    field = "urn:li:schemaField:({},{})"
    column, origin = field.format(ORDERS_TABLE, "a~1b"), field.format(SOURCE, "c")
    path = f"/fineGrainedLineages/NONE/{column}/NONE/{origin}"
    patch = [
        {"op": "add", "path": f"/upstreams/{SOURCE}", "value": {"dataset": SOURCE}},
        {"op": "add", "path": path, "value": {"confidenceScore": 1.0}},
    ]
    actual = graph_of(
        [Proposal(ORDERS_TABLE, "dataset", "upstreamLineage", body(patch), change=Change.PATCH)]
    )
    assert actual.edges == (Edge(SOURCE, ORDERS_TABLE, "lineage"),)
    table = node(actual, "dataset", "dwh.orders")
    assert words(table, "Column lineage") == [["a/b", "c", "shop.public.orders"]]


def test_what_was_left_out_is_shown_with_its_reason() -> None:
    problem = Problem(ORDERS_TABLE, "upstreamLineage", "the SQL can't be read")
    key = Proposal(ORDERS_TABLE, "dataset", "datasetKey", body({"name": "dwh.orders"}))
    actual = graph_of([key, problem])
    assert actual.problems == (problem,)
    table = node(actual, "dataset", "dwh.orders")
    assert words(table, "Left out") == [["upstreamLineage", "the SQL can't be read"]]


def test_a_run_without_proposals_has_a_page() -> None:
    actual = graph_of([])
    assert (actual.nodes, actual.edges) == ((), ())
    assert "<title>Nothing was captured</title>" in page(actual)


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [(0, "0 ms"), (999, "999 ms"), (1500, "1.5 s"), (66043, "1 min 6 s"), (7_260_000, "2 h 1 min")],
)
def test_a_time_span_has_the_unit_that_fits_it(milliseconds: int, expected: str) -> None:
    assert duration(milliseconds) == expected


class Outline(HTMLParser):
    """The tags of a page, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


def test_no_value_can_leave_the_data_of_the_page() -> None:
    harmless, attacked = Outline(page(graph_of(shop()))), Outline(page(graph_of(hostile())))
    assert [tag for tag, _ in attacked.tags] == [tag for tag, _ in harmless.tags]
    data: dict[str, Any] = json.loads(attacked.scripts[0])
    assert data["title"] == HOSTILE
    assert "<" not in attacked.scripts[0]
    assert attacked.scripts[1:] == harmless.scripts[1:]


def test_a_link_that_would_run_a_script_is_only_a_text() -> None:
    (asset,) = (each for each in graph_of(hostile()).nodes if each.kind == "asset")
    assert ["link", "javascript:window.broken=1"] in words(asset, "Properties")
    cells = [cell for each in asset.sections for row in each.rows for cell in row]
    assert not [each for each in cells if isinstance(each, Link) and each.url]


def test_the_page_loads_nothing_from_anywhere(graph: Graph) -> None:
    outline = Outline(page(graph))
    sources = [value for _, each in outline.tags for value in (each.get("src"), each.get("href"))]
    assert [source for source in sources if source] == ["data:,"]
    (policy,) = (
        each["content"] or "" for _, each in outline.tags if each.get("http-equiv") is not None
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert policy.count("'sha256-") == len(outline.scripts) - 1


def test_the_vendored_libraries_are_the_versions_that_are_noted() -> None:
    vendor = Path(__file__).parents[1] / "datahub_eventlog/preview/vendor"
    noted = dict(re.findall(r"`(\S+\.js)` \| \S+ \| (\S+) \|", (vendor / "README.md").read_text()))
    assert set(noted) == {each.name for each in vendor.glob("*.js")}
    for name, version in noted.items():
        assert f'"{version}"' in (vendor / name).read_text()
        assert (vendor / f"{name.partition('.')[0]}.LICENSE").read_text()
