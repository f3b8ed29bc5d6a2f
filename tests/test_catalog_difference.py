"""Catalogues as documents, and what differs between two of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from catalogues import NIGHTLY, ORDERS, REPORT, column, part, schema, urn
from hypothesis import given
from hypothesis import strategies as st

from datahub_eventlog.catalog.difference import (
    AssetChange,
    Difference,
    FieldChange,
    JobChange,
    difference,
    is_same_type,
)
from datahub_eventlog.catalog.document import (
    Catalogue,
    CatalogueAsset,
    CatalogueColumn,
    CatalogueJob,
    CatalogueTrigger,
    ColumnEdge,
    document,
    parse,
)
from datahub_eventlog.errors import ConfigurationError
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import (
    AssetFacts,
    CatalogPart,
    CheckFacts,
    CheckKey,
    CodeRepository,
)


def catalogue(*parts: CatalogPart) -> Catalogue:
    return parse(json.dumps(document(parts, Context())), "base.json")


# ---------------------------------------------------------------------------------- the document


def test_a_document_has_what_the_definitions_say() -> None:
    found = catalogue(part(ORDERS), part(REPORT, upstream=(ORDERS,), jobs=(NIGHTLY,)))
    assert list(found.assets) == [urn("report"), urn("sales.orders")]
    orders, report = found.assets[urn("sales.orders")], found.assets[urn("report")]
    assert orders == CatalogueAsset(
        key=("sales", "orders"),
        urn=urn("sales.orders"),
        location="shop",
        table=urn("dwh.sales.orders", "snowflake"),
        description="All orders.",
        group="sales",
        owners=("ada@example.com", "team:data"),
        tags={"tier": "1"},
        kinds=("snowflake",),
        partitions="Daily.",
        code_version="1",
        columns=(
            CatalogueColumn("id", "int", nullable=False),
            CatalogueColumn("amount", "decimal(10, 2)"),
        ),
        checks=("not_empty",),
    )
    assert report.columns is None
    assert report.upstream == (urn("sales.orders"),)
    assert report.column_lineage == (ColumnEdge("total", urn("sales.orders"), "amount"),)
    (job,) = found.jobs.values()
    assert job.urn == "urn:li:dataFlow:(dagster,shop.definitions/nightly,PROD)"
    assert job.ops == ("a.b", "load")
    assert job.triggers == (
        CatalogueTrigger("at_night", "schedule", ("0 1 * * *",), "UTC"),
        CatalogueTrigger("on_file", "standard", interval_seconds=30),
    )


def test_a_document_has_no_secrets_and_hides_nothing_else() -> None:
    secret = "postgresql://bob:hush@db/shop"
    types = schema(column("token", "struct<token:string>", description=secret))
    checks = tuple(CheckFacts(CheckKey(("token", "usage"), name)) for name in ("api_key", "unique"))
    facts = AssetFacts(
        ("token", "usage"),
        description=secret,
        tags={"password": "hush"},
        metadata=types,
        checks=checks,
    )
    text = json.dumps(document([part(facts)], Context()))
    assert "hush" not in text
    (asset,) = parse(text, "base.json").assets.values()
    assert asset.key == ("token", "usage")
    assert asset.checks == ("api_key", "unique")
    assert asset.columns is not None
    assert (asset.columns[0].name, asset.columns[0].type) == ("token", "struct<token:string>")


def test_an_asset_without_a_urn_is_left_out() -> None:
    assert catalogue(part(AssetFacts(("long" * 200,)))).assets == {}


def test_an_asset_counts_where_it_is_made_not_where_it_is_external() -> None:
    made, external = replace(ORDERS, group="made"), replace(ORDERS, is_external=True)
    other = CodeRepository("zoo", "__repository__")
    for parts in (
        (part(made), CatalogPart(other, (external,))),
        (part(external), CatalogPart(other, (made,))),
    ):
        (asset,) = catalogue(*parts).assets.values()
        assert asset.group == "made"
        assert not asset.external


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no json", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is no catalogue"),
        ("{}", "is no catalogue"),
        ('{"format": 2}', "has the format 2"),
        ('{"format": 1}', "is a broken catalogue"),
        ('{"format": 1, "locations": [{"name": 1, "repositories": []}]}', "is a broken catalogue"),
        ('{"format": 1, "locations": {"name": "x"}}', "is a broken catalogue"),
    ],
)
def test_another_file_is_refused_by_its_name(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as raised:
        parse(text, "some/file.json")
    assert str(raised.value).startswith("some/file.json ")


# -------------------------------------------------------------------------------- the difference


def assets_of(*assets: CatalogueAsset) -> Catalogue:
    return Catalogue({asset.urn: asset for asset in assets})


ASSET = CatalogueAsset(
    key=("a",),
    urn=urn("a"),
    table=urn("t", "snowflake"),
    columns=(CatalogueColumn("id", "int"), CatalogueColumn("name", "text")),
    upstream=(urn("b"),),
    column_lineage=(ColumnEdge("id", urn("b"), "id"),),
    checks=("one",),
)


def change_of(**changed: Any) -> AssetChange:
    found = difference(assets_of(ASSET), assets_of(replace(ASSET, **changed)))
    (change,) = found.assets_changed
    assert found == Difference(assets_changed=(change,))
    return change


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("location", "other"),
        ("table", urn("u", "snowflake")),
        ("description", "text"),
        ("group", "g"),
        ("owners", ("ada",)),
        ("tags", {"a": "b"}),
        ("kinds", ("python",)),
        ("partitions", "Daily."),
        ("code_version", "2"),
        ("external", True),
    ],
)
def test_a_changed_field_is_seen(name: str, value: Any) -> None:
    (field,) = change_of(**{name: value}).fields
    assert field.name == name
    assert field.after == (list(value) if isinstance(value, tuple) else value)


def test_changed_columns_are_seen() -> None:
    columns = (CatalogueColumn("id", "text", nullable=False), CatalogueColumn("new"))
    change = change_of(columns=columns)
    assert [column.name for column in change.columns_added] == ["new"]
    assert [column.name for column in change.columns_removed] == ["name"]
    assert [(each.column, each.change) for each in change.columns_changed] == [
        ("id", FieldChange("type", "int", "text")),
        ("id", FieldChange("nullable", before=True, after=False)),
    ]


def test_columns_that_are_not_declared_any_more_are_not_removed() -> None:
    change = change_of(columns=None)
    assert change.fields == (FieldChange("columns", ["id", "name"], None),)
    assert change.columns_removed == ()
    assert difference(assets_of(ASSET), assets_of(change.after)).breaking == ()


def test_changed_edges_and_checks_are_seen() -> None:
    change = change_of(
        upstream=(urn("c"),), column_lineage=(ColumnEdge("id", urn("c"), "id"),), checks=("two",)
    )
    assert (change.upstream_added, change.upstream_removed) == ((urn("c"),), (urn("b"),))
    assert change.column_edges_added == (ColumnEdge("id", urn("c"), "id"),)
    assert change.column_edges_removed == (ColumnEdge("id", urn("b"), "id"),)
    assert (change.checks_added, change.checks_removed) == (("two",), ("one",))


def test_a_renamed_asset_is_a_removed_and_an_added_one() -> None:
    renamed = replace(ASSET, key=("z",), urn=urn("z"))
    found = difference(assets_of(ASSET), assets_of(renamed))
    assert found == Difference(assets_added=(renamed,), assets_removed=(ASSET,))


def test_breaking_is_what_those_downstream_cannot_do_without() -> None:
    gone = replace(ASSET, key=("gone",), urn=urn("gone"))
    changed = replace(ASSET, columns=(CatalogueColumn("id", "text"),), table=None, checks=())
    found = difference(assets_of(ASSET, gone), assets_of(changed))
    assert [(item.asset.name, item.column, item.is_removal) for item in found.breaking] == [
        ("gone", None, True),
        ("a", None, False),
        ("a", "name", True),
        ("a", "id", False),
    ]
    added = replace(ASSET, columns=(*(ASSET.columns or ()), CatalogueColumn("new")))
    assert difference(assets_of(ASSET), assets_of(added, gone)).breaking == ()
    no_table = replace(ASSET, table=None)
    assert difference(assets_of(no_table), assets_of(ASSET)).breaking == ()


JOB = CatalogueJob("nightly", "flow", ops=("a",), triggers=(CatalogueTrigger("t", "schedule"),))


def job_change(**changed: Any) -> JobChange:
    found = difference(
        Catalogue(jobs={"flow": JOB}), Catalogue(jobs={"flow": replace(JOB, **changed)})
    )
    (change,) = found.jobs_changed
    assert found == Difference(jobs_changed=(change,))
    return change


def test_changed_jobs_are_seen() -> None:
    ops = job_change(ops=("b",))
    assert (ops.ops_added, ops.ops_removed) == (("b",), ("a",))
    other = CatalogueTrigger("u", "asset")
    triggers = job_change(triggers=(other,))
    assert (triggers.triggers_added, triggers.triggers_removed) == ((other,), JOB.triggers)
    cron = job_change(triggers=(CatalogueTrigger("t", "schedule", ("0 1 * * *",), "UTC"),))
    assert cron.triggers_changed == (FieldChange("t", "schedule", "schedule 0 1 * * * UTC"),)
    assert job_change(description="d").fields == (FieldChange("description", None, "d"),)
    nothing, one = Catalogue(), Catalogue(jobs={"flow": JOB})
    assert difference(nothing, one) == Difference(jobs_added=(JOB,))
    assert difference(one, nothing) == Difference(jobs_removed=(JOB,))


def test_the_ops_of_the_job_of_all_assets_say_nothing_more_than_the_assets() -> None:
    one = replace(JOB, name="__ASSET_JOB")
    other = replace(one, ops=("b",))
    assert difference(Catalogue(jobs={"f": one}), Catalogue(jobs={"f": other})).is_empty


def test_what_datahub_cannot_know_is_not_compared_with_it() -> None:
    table = urn("t", "postgres")
    asset = CatalogueAsset(("a",), urn("a"), upstream=(urn("b"), table), columns=ASSET.columns)
    base = replace(assets_of(asset), is_of_datahub=True)
    head = replace(assets_of(ASSET), jobs={"flow": JOB})
    assert difference(base, head).is_empty


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("VARCHAR(10)", "varchar( 10 )"),
        ("character varying(10)", "varchar(10)"),
        ("numeric(10, 2)", "DECIMAL(10,2)"),
        ("integer", "int"),
        ("struct<a:int, b:int>", "struct<a: int,b: int>"),
        ("?", "int"),
        ("", "int"),
    ],
)
def test_another_spelling_is_the_same_type(one: str, other: str) -> None:
    assert is_same_type(one, other)
    assert is_same_type(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [("int", "bigint"), ("varchar(10)", "varchar(20)"), ("int", "text"), ("int", "array<int>")],
)
def test_another_type_is_another_type(one: str, other: str) -> None:
    assert not is_same_type(one, other)
    assert not is_same_type(other, one)


# ------------------------------------------------------------------------------------ properties

NAMES = st.sampled_from(["a", "b", "c"])
SOME = st.none() | NAMES
COLUMNS = st.builds(
    CatalogueColumn,
    NAMES,
    st.sampled_from(["int", "INTEGER", "text", "?", "bigint"]),
    SOME,
    st.booleans(),
)
URNS = NAMES.map(urn)


def several(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=3, unique=True).map(tuple)


ASSETS = st.builds(
    lambda name, **more: CatalogueAsset((name,), urn(name), **more),
    NAMES,
    location=NAMES,
    table=st.none() | NAMES.map(lambda name: urn(name, "snowflake")),
    description=SOME,
    group=SOME,
    owners=several(NAMES),
    tags=st.dictionaries(NAMES, NAMES, max_size=2),
    columns=st.none() | several(COLUMNS),
    upstream=several(URNS),
    column_lineage=several(st.builds(ColumnEdge, NAMES, URNS, NAMES)),
    checks=several(NAMES),
)
TRIGGERS = st.builds(
    CatalogueTrigger, NAMES, st.sampled_from(["schedule", "asset"]), several(NAMES)
)
JOBS = st.builds(
    lambda name, **more: CatalogueJob(name, name, **more),
    NAMES,
    description=SOME,
    ops=several(NAMES),
    triggers=several(TRIGGERS),
)


def by_urn(items: list[Any]) -> dict[str, Any]:
    return {item.urn: item for item in items}


CATALOGUES = st.builds(
    Catalogue,
    st.lists(ASSETS, max_size=3).map(by_urn),
    st.lists(JOBS, max_size=3).map(by_urn),
)


def swapped(change: FieldChange) -> FieldChange:
    return FieldChange(change.name, change.after, change.before)


def mirrored_asset(change: AssetChange) -> AssetChange:
    return AssetChange(
        change.after,
        change.before,
        tuple(map(swapped, change.fields)),
        change.columns_removed,
        change.columns_added,
        tuple(replace(each, change=swapped(each.change)) for each in change.columns_changed),
        change.upstream_removed,
        change.upstream_added,
        change.column_edges_removed,
        change.column_edges_added,
        change.checks_removed,
        change.checks_added,
    )


def mirrored_job(change: JobChange) -> JobChange:
    return JobChange(
        change.after,
        change.before,
        tuple(map(swapped, change.fields)),
        change.ops_removed,
        change.ops_added,
        change.triggers_removed,
        change.triggers_added,
        tuple(map(swapped, change.triggers_changed)),
    )


@given(CATALOGUES)
def test_nothing_differs_from_itself(one: Catalogue) -> None:
    assert difference(one, one) == Difference()


@given(CATALOGUES, CATALOGUES)
def test_the_other_way_round_it_is_mirrored(one: Catalogue, other: Catalogue) -> None:
    there, back = difference(one, other), difference(other, one)
    assert back == Difference(
        there.assets_removed,
        there.assets_added,
        tuple(map(mirrored_asset, there.assets_changed)),
        there.jobs_removed,
        there.jobs_added,
        tuple(map(mirrored_job, there.jobs_changed)),
    )
