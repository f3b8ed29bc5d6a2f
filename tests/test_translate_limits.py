"""What is left out of texts and proposals that DataHub would refuse for their size."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proposals import dataset_urn, proposal
from receiver_schemas import aspects

from datahub_eventlog.translate.limits import (
    LARGEST_BODY,
    LONGEST_PROPERTY,
    LONGEST_TEXT,
    cut,
    within_limits,
)
from datahub_eventlog.values import Change, Problem, Proposal

LONG = "x" * 3_000_000
URN = dataset_urn("a")


def limited(aspect: str, value: Any, **options: Any) -> tuple[list[Any], list[Problem]]:
    """The bodies that are sent instead, and the problems; each fits, and is what DataHub takes."""
    items = list(within_limits([proposal(URN, aspect, value, **options)]))
    proposals = [item for item in items if isinstance(item, Proposal)]
    assert all(len(each.body) <= LARGEST_BODY for each in proposals)
    bodies = [json.loads(each.body) for each in proposals]
    if options.get("change") is not Change.PATCH:
        for body in bodies:
            aspects()[aspect].check(body)
    return bodies, [item for item in items if isinstance(item, Problem)]


def column(number: int, **more: Any) -> dict[str, Any]:
    data_type: Any = {"type": {"com.linkedin.schema.StringType": {}}}
    path = f"column_{number}"
    return {"fieldPath": path, "nativeDataType": "text", "type": data_type, **more}


def schema(fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schemaName": "a",
        "platform": "urn:li:dataPlatform:dagster",
        "version": 0,
        "hash": "",
        "platformSchema": {"com.linkedin.schema.OtherSchema": {"rawSchema": ""}},
        "fields": fields,
    }


@given(st.text(), st.integers(min_value=60, max_value=200))
def test_a_cut_text_is_no_longer_than_it_may_be_and_cut_again_it_stays(
    text: str, length: int
) -> None:
    actual = cut(text * 20, length)
    assert len(actual) <= length
    assert cut(actual, length) == actual


def test_a_cut_text_counts_the_characters_that_are_left_out() -> None:
    actual = cut("ab" * 1000, 100)
    kept, _, mark = actual.partition("… ")
    assert mark == f"[{2000 - len(kept):,} more characters are left out]"
    assert ("ab" * 1000).startswith(kept)


@pytest.mark.parametrize("shift", [0, 1])
def test_a_cut_does_not_part_a_surrogate_pair(shift: int) -> None:
    actual = cut("x" * shift + "\ud83d\ude00" * 1000, 100)
    assert actual.count("\ud83d") == actual.count("\ude00") > 0


def test_what_fits_is_left_as_it_is() -> None:
    value = {"description": "d" * LONGEST_TEXT, "customProperties": {"a": "p" * LONGEST_PROPERTY}}
    assert limited("datasetProperties", value) == ([value], [])


def test_each_kind_of_text_is_cut_at_its_length() -> None:
    value = {"description": LONG, "customProperties": {"name": LONG, "json": json.dumps([LONG])}}
    (body,), problems = limited("datasetProperties", value)
    assert body["description"] == cut(LONG)
    assert body["customProperties"]["name"] == cut(LONG, LONGEST_PROPERTY)
    assert "more characters are left out" in body["customProperties"]["json"]
    assert problems == []


def test_many_properties_are_all_cut_shorter_to_the_same_length() -> None:
    value = {"customProperties": {f"p{number:04}": "x" * 1000 for number in range(5000)}}
    (body,), problems = limited("datasetProperties", value)
    assert body["customProperties"].keys() == value["customProperties"].keys()
    assert len({len(customProperty) for customProperty in body["customProperties"].values()}) == 1
    assert problems == []


def test_columns_lose_their_descriptions_ends_before_any_column_is_left_out() -> None:
    (body,), problems = limited(
        "schemaMetadata", schema([column(number, description="d" * 1000) for number in range(2000)])
    )
    assert len(body["fields"]) == 2000
    assert problems == []


def test_of_too_many_columns_the_last_are_left_out_and_counted() -> None:
    columns = [column(number, description="d" * 1000) for number in range(20_000)]
    (body,), (problem,) = limited("schemaMetadata", schema(columns))
    left = len(body["fields"])
    assert 1000 < left < 20_000
    assert [field["fieldPath"] for field in body["fields"]] == [f"column_{n}" for n in range(left)]
    assert f"{20_000 - left:,} of 20,000 fields" in problem.reason
    assert (problem.urn, problem.aspect) == (URN, "schemaMetadata")


def test_names_and_urns_are_never_cut() -> None:
    path = "c" * (LONGEST_TEXT + 1)
    urn = f"urn:li:schemaField:({URN},{path})"
    edge = {
        "upstreamType": "FIELD_SET",
        "upstreams": [urn],
        "downstreamType": "FIELD",
        "downstreams": [urn],
    }
    (body,), problems = limited("schemaMetadata", schema([{**column(1), "fieldPath": path}]))
    assert body["fields"][0]["fieldPath"] == path
    (body,), more = limited("upstreamLineage", {"upstreams": [], "fineGrainedLineages": [edge]})
    assert body["fineGrainedLineages"] == [edge]
    assert problems == more == []


def test_json_that_is_parsed_is_left_out_rather_than_cut() -> None:
    columns = [column(1, jsonProps=json.dumps({"constraints": [LONG]}))]
    (body,), (problem,) = limited("schemaMetadata", schema(columns))
    assert "jsonProps" not in body["fields"][0]
    assert "1 jsonProps" in problem.reason


def test_of_too_many_edges_those_of_columns_are_left_out_first() -> None:
    upstreams = [
        {"dataset": dataset_urn(f"up_{number}"), "type": "TRANSFORMED"} for number in range(4000)
    ]
    edges = [
        {
            "upstreamType": "FIELD_SET",
            "upstreams": [f"urn:li:schemaField:({dataset_urn('up')},c{number})"],
            "downstreamType": "FIELD",
            "downstreams": [f"urn:li:schemaField:({URN},c{number})"],
        }
        for number in range(10_000)
    ]
    value = {"upstreams": upstreams, "fineGrainedLineages": edges}
    (body,), (problem,) = limited("upstreamLineage", value)
    assert body["upstreams"] == upstreams
    assert "of 10,000 fineGrainedLineages" in problem.reason


@pytest.mark.parametrize("is_generic", [False, True])
def test_a_large_patch_becomes_several_and_loses_nothing(*, is_generic: bool) -> None:
    changes = [
        {"op": "add", "path": f"/upstreams/{dataset_urn(number)}", "value": {"dataset": "x" * 200}}
        for number in range(10_000)
    ]
    keys = {"upstreams": ["dataset"]}
    patch = {"arrayPrimaryKeys": keys, "patch": changes} if is_generic else changes
    bodies, problems = limited("upstreamLineage", patch, change=Change.PATCH)
    assert len(bodies) > 1
    parts = [body["patch"] if is_generic else body for body in bodies]
    assert [change for part in parts for change in part] == changes
    assert problems == []


def test_the_texts_of_a_patch_are_cut_and_its_paths_are_not() -> None:
    name = "n" * LONGEST_TEXT * 2
    changes = [
        {"op": "add", "path": "/description", "value": LONG},
        {"op": "add", "path": f"/customProperties/{name}", "value": LONG},
        {"op": "remove", "path": "/customProperties/old"},
    ]
    (body,), _ = limited("datasetProperties", changes, change=Change.PATCH)
    assert body[0]["value"] == cut(LONG)
    assert body[1] == {**changes[1], "value": cut(LONG, LONGEST_PROPERTY)}
    assert body[2] == changes[2]


def test_what_can_not_be_made_to_fit_is_a_problem() -> None:
    bodies, (problem,) = limited("datasetProperties", {"name": LONG})
    assert bodies == []
    assert "900,000 bytes" in problem.reason


@pytest.mark.parametrize("value", [[1, LONG], {"patch": 5, "x": LONG}, LONG, [{"value": LONG}]])
def test_what_is_no_patch_at_all_is_left_to_datahub(value: Any) -> None:
    bodies = list(within_limits([proposal(URN, "status", value, change=Change.PATCH)]))
    assert bodies == [proposal(URN, "status", value, change=Change.PATCH)]
