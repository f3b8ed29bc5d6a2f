from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import zlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from datahub_eventlog.catalog.packing import decode, encode
from datahub_eventlog.definitions.value_json import to_json
from datahub_eventlog.values import (
    AssetFacts,
    CatalogJob,
    CatalogPart,
    CheckFacts,
    CheckKey,
    CodeRepository,
    DbtTest,
    Job,
    Metadatum,
    Op,
    Port,
    Step,
    StepOutput,
    Trigger,
)

TEXT = st.text(max_size=3)
MAYBE = st.none() | TEXT
TAGS = st.dictionaries(TEXT, TEXT, max_size=2)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=3,
)
KEYS = st.lists(TEXT, min_size=1, max_size=2).map(tuple)
METADATA = st.dictionaries(TEXT, st.builds(Metadatum, TEXT, JSON), max_size=2)
CHECKS = st.builds(CheckKey, KEYS, TEXT)


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=2).map(tuple)


PORTS = st.builds(Port, TEXT, TEXT, MAYBE, METADATA, st.booleans(), st.booleans())
OPS = st.builds(Op, TEXT, TEXT, MAYBE, TAGS, some(PORTS), some(PORTS), MAYBE)
JOBS = st.builds(Job, TEXT, MAYBE, TAGS, METADATA, some(TEXT), some(OPS), st.booleans())
OUTPUTS = st.builds(StepOutput, TEXT, st.none() | KEYS, st.none() | CHECKS)
STEPS = st.builds(Step, TEXT, TEXT, some(TEXT), some(OUTPUTS))
TRIGGERS = st.builds(
    Trigger,
    name=TEXT,
    kind=TEXT,
    is_running=st.booleans(),
    cron=some(TEXT),
    timezone=MAYBE,
    interval_seconds=st.none() | st.floats(allow_nan=False),
    description=MAYBE,
)
DBT_TESTS = st.builds(
    DbtTest,
    TEXT,
    TEXT,
    test=TEXT,
    arguments=st.dictionaries(TEXT, JSON, max_size=2),
    upstream=MAYBE,
    upstreams=st.integers(0, 3),
    dataset=MAYBE,
    severity=MAYBE,
    code=MAYBE,
    description=MAYBE,
)
CHECK_FACTS = st.builds(
    CheckFacts, CHECKS, MAYBE, st.booleans(), METADATA, st.none() | DBT_TESTS, st.booleans()
)
ASSETS = st.builds(
    AssetFacts,
    key=KEYS,
    group=MAYBE,
    owners=some(TEXT),
    tags=TAGS,
    kinds=some(TEXT),
    deps=some(KEYS),
    description=MAYBE,
    code_version=MAYBE,
    partitions=MAYBE,
    automation=MAYBE,
    freshness=JSON,
    backfill=MAYBE,
    metadata=METADATA,
    checks=some(CHECK_FACTS),
    io_manager=MAYBE,
    is_external=st.booleans(),
)
CATALOG_JOBS = st.builds(CatalogJob, JOBS, some(STEPS), some(ASSETS), some(TRIGGERS))
PARTS = st.builds(
    CatalogPart,
    st.builds(CodeRepository, TEXT, TEXT, MAYBE, MAYBE),
    some(ASSETS),
    some(ASSETS),
    some(CATALOG_JOBS),
)

SHOP = CatalogPart(
    CodeRepository("shop.py", "__repository__", file="shop.py"),
    assets=(AssetFacts(("orders",), tags={"tier": "1"}, metadata={"rows": Metadatum("int", 5)}),),
    jobs=(
        CatalogJob(
            Job("daily", ops=(Op("orders", "orders", outputs=(Port("result", "Any"),)),)),
            steps=(Step("orders", "orders", outputs=(StepOutput("result", ("orders",)),)),),
            triggers=(Trigger("nightly", "schedule", is_running=False, cron=("@daily",)),),
        ),
    ),
)


@given(PARTS)
def test_what_is_packed_comes_back(part: CatalogPart) -> None:
    assert decode(encode(part)) == part


@given(PARTS)
def test_equal_parts_are_packed_alike_whatever_the_order_of_their_mappings(
    part: CatalogPart,
) -> None:
    turned = dataclasses.replace(part, assets=tuple(map(reversed_mappings, part.assets)))

    assert turned == part
    assert encode(turned) == encode(part)
    assert encode(turned) == encode(part)


def reversed_mappings(asset: AssetFacts) -> AssetFacts:
    return dataclasses.replace(
        asset,
        tags=dict(reversed([*asset.tags.items()])),
        metadata=dict(reversed([*asset.metadata.items()])),
    )


@given(PARTS, PARTS)
def test_other_parts_are_packed_otherwise(one: CatalogPart, other: CatalogPart) -> None:
    assert (encode(one) == encode(other)) == (to_json(one) == to_json(other))


def test_a_part_is_packed_alike_in_another_process() -> None:
    program = "from test_catalog_packing import SHOP, encode; print(encode(SHOP).hex())"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, env=environment
    )

    assert other.stdout.decode().strip() == encode(SHOP).hex()


def test_what_a_later_version_has_added_is_ignored() -> None:
    content = json.loads(zlib.decompress(encode(SHOP)))
    content["weather"] = "fine"
    content["assets"][0]["size"] = {"rows": 5}
    content["jobs"][0]["triggers"][0]["colour"] = None
    content["jobs"][0]["job"]["ops"][0]["outputs"][0]["unit"] = ["m"]

    assert decode(zlib.compress(json.dumps(content).encode())) == SHOP


def test_a_text_that_is_no_unicode_comes_back() -> None:
    part = CatalogPart(CodeRepository("shop", "a\ud800"))

    assert decode(encode(part)) == part
