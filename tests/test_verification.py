"""Whether an aspect in DataHub is as it was sent: ours must be in theirs."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proposals import dataset_urn
from receiver_patches import patched

from datahub_eventlog.values import Change, Proposal
from datahub_eventlog.verification.columns import columns_of, named_columns
from datahub_eventlog.verification.comparison import differences, is_in

URN = dataset_urn("a")
TABLE = dataset_urn("b")


def _proposal(aspect: str, ours: Any, change: Change = Change.UPSERT) -> Proposal:
    return Proposal(URN, "dataset", aspect, json.dumps(ours), change)


def _paths(aspect: str, ours: Any, theirs: Any, **options: bool) -> list[str]:
    return [row.path for row in differences(_proposal(aspect, ours), theirs, **options)]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)
ASPECTS = st.dictionaries(st.text(min_size=1, max_size=8), VALUES, max_size=5)


@given(
    aspect=st.sampled_from(["datasetProperties", "upstreamLineage", "schemaMetadata"]),
    value=ASPECTS,
)
def test_what_is_equal_has_no_difference(aspect: str, value: Any) -> None:
    assert _paths(aspect, value, copy.deepcopy(value), is_older=True) == []


@given(value=ASPECTS, more=ASPECTS)
def test_fields_that_datahub_adds_are_no_difference(value: Any, more: Any) -> None:
    assert _paths("schemaMetadata", value, {**more, **value}) == []


@given(value=VALUES, other=VALUES)
def test_the_comparison_takes_whatever_datahub_answers(value: Any, other: Any) -> None:
    _paths("upstreamLineage", {"upstreams": [value], "a": value}, other, is_older=True)
    patch = [{"op": "add", "path": "/upstreams/x", "value": value}]
    differences(_proposal("upstreamLineage", patch, Change.PATCH), other)
    is_in(value, other)


@pytest.mark.parametrize(
    ("aspect", "ours", "theirs", "paths"),
    [
        ("status", {"removed": False}, {"removed": 0}, ["/removed"]),
        ("dataJobInfo", {"type": {"string": "op"}}, {"type": "op"}, []),
        ("dataJobInfo", {"name": "a"}, {"name": "b"}, ["/name"]),
        ("dataJobInfo", {"name": "a"}, {"name": "a", "description": "By an API."}, []),
        ("subTypes", {"typeNames": ["Op"]}, {"typeNames": ["Op", "Other"]}, ["/typeNames"]),
        (
            "datasetProperties",
            {"customProperties": {"a": "1"}},
            {"customProperties": {}},
            ["/customProperties/a"],
        ),
        (
            "datasetProperties",
            {"customProperties": {"a": "1"}},
            {"customProperties": {"a": "1", "b": "2"}},
            [],
        ),
        ("siblings", {"siblings": ["a"], "primary": False}, {"siblings": ["b", "a"]}, []),
        (
            "schemaMetadata",
            {"fields": [{"fieldPath": "a"}]},
            {"fields": [{"fieldPath": "a"}, {"fieldPath": "b"}]},
            ["/fields"],
        ),
    ],
)
def test_a_field_that_we_send_must_be_as_sent(
    aspect: str, ours: Any, theirs: Any, paths: list[str]
) -> None:
    assert _paths(aspect, ours, theirs) == paths


def test_of_a_list_that_others_add_to_each_item_is_looked_for() -> None:
    ours = {"upstreams": [{"dataset": "a", "type": "VIEW"}, {"dataset": "b", "type": "COPY"}]}
    theirs = {"upstreams": [{"dataset": "c", "type": "VIEW"}, {"dataset": "b", "type": "VIEW"}]}
    assert _paths("upstreamLineage", ours, theirs) == ["/upstreams/a", "/upstreams/b/type"]


def test_of_what_is_older_than_ours_nothing_may_be_more() -> None:
    ours = {"upstreams": [{"dataset": "a"}]}
    theirs = {"upstreams": [{"dataset": "a"}, {"dataset": "b"}], "fineGrainedLineages": [{}]}
    assert _paths("upstreamLineage", ours, theirs, is_older=True) == [
        "/fineGrainedLineages/",
        "/upstreams/b",
    ]
    properties = {"customProperties": {"a": "1"}}
    more = {"customProperties": {"a": "1", "b": "2"}}
    assert _paths("datasetProperties", properties, more, is_older=True) == ["/customProperties/b"]


EDGE = {
    "op": "add",
    "path": "/fineGrainedLineages/NONE/urn:li:schemaField:(x,p)/NONE/urn:li:schemaField:(y,q~1r)",
    "value": {"confidenceScore": 1.0},
}


@pytest.mark.parametrize(
    ("aspect", "operation"),
    [
        (
            "globalTags",
            {"op": "add", "path": "/tags/urn:li:tag:a", "value": {"tag": "urn:li:tag:a"}},
        ),
        (
            "ownership",
            {
                "op": "add",
                "path": "/owners/urn:li:corpuser:a/DATAOWNER",
                "value": {"owner": "urn:li:corpuser:a", "type": "DATAOWNER"},
            },
        ),
        ("upstreamLineage", {"op": "add", "path": "/upstreams/a", "value": {"dataset": "a"}}),
        ("upstreamLineage", EDGE),
        ("siblings", {"op": "add", "path": "/siblings/a", "value": "a"}),
        ("datasetProperties", {"op": "add", "path": "/customProperties/a~1b", "value": "1"}),
        ("datasetProperties", {"op": "add", "path": "/description", "value": "text"}),
    ],
)
@pytest.mark.parametrize("form", [lambda each: [each], lambda each: {"patch": [each]}])
def test_what_a_patch_added_is_found_and_missed(aspect: str, operation: Any, form: Any) -> None:
    empty: Any = {"customProperties": {}} if aspect == "datasetProperties" else None
    there = patched(aspect, empty, [operation])
    proposal = _proposal(aspect, form(operation), Change.PATCH)
    assert differences(proposal, there) == ()
    (missed,) = differences(proposal, empty or {})
    assert (missed.path, missed.ours) == (operation["path"], operation["value"])


def test_the_columns_that_lineage_names_are_read_from_wholes_and_patches() -> None:
    source, target = f"urn:li:schemaField:({URN},a)", f"urn:li:schemaField:({TABLE},b)"
    whole = {
        "upstreams": [],
        "fineGrainedLineages": [{"upstreams": [source], "downstreams": [target]}],
    }
    columns = {(URN, "a"), (TABLE, "b")}
    assert named_columns(_proposal("upstreamLineage", whole)) == columns
    patch = [
        {"op": "add", "path": f"/fineGrainedLineages/NONE/{target}/NONE/{source}", "value": {}}
    ]
    assert named_columns(_proposal("upstreamLineage", patch, Change.PATCH)) == columns


def test_a_column_is_known_by_both_of_its_names() -> None:
    fields = [{"fieldPath": "[version=2.0].[type=struct].[type=int].id"}, {"fieldPath": "price"}]
    assert columns_of({"fields": fields}) >= {"id", "price"}
    assert columns_of(None) == frozenset()


def test_a_property_that_is_named_like_a_type_is_no_union() -> None:

    body = json.dumps({"customProperties": {"string": "x"}})
    proposal = Proposal(URN, "dataset", "datasetProperties", body)
    theirs = {"customProperties": {"string": "x", "mine": "by hand"}}
    assert differences(proposal, theirs) == ()
