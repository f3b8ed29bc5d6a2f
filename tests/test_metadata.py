from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest

from datahub_eventlog.metadata import metadata_of, metadatum_of
from datahub_eventlog.values import Metadatum

COLUMN = dg.TableColumn(
    "id",
    "int",
    description="the key",
    constraints=dg.TableColumnConstraints(nullable=False, unique=True, other=["> 0"]),
    tags={"pii": ""},
)
AS_JSON = {
    "name": "id",
    "type": "int",
    "description": "the key",
    "nullable": False,
    "unique": True,
    "constraints": ["> 0"],
    "tags": {"pii": ""},
}
SCHEMA = dg.TableSchema([COLUMN], constraints=dg.TableConstraints(other=["primary key (id)"]))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("words", Metadatum("text", "words")),
        (3, Metadatum("int", 3)),
        (0.5, Metadatum("float", 0.5)),
        (True, Metadatum("bool", True)),
        (None, Metadatum("null", None)),
        (Path("a/b"), Metadatum("path", "a/b")),
        ({"a": [1]}, Metadatum("json", {"a": [1]})),
        (dg.MetadataValue.md("*x*"), Metadatum("md", "*x*")),
        (dg.MetadataValue.url("http://x"), Metadatum("url", "http://x")),
        (dg.MetadataValue.notebook("n.ipynb"), Metadatum("notebook", "n.ipynb")),
        (dg.MetadataValue.timestamp(5.0), Metadatum("timestamp", 5.0)),
        (dg.MetadataValue.asset(dg.AssetKey(["a", "b"])), Metadatum("asset", ["a", "b"])),
        (dg.MetadataValue.dagster_run("r"), Metadatum("run", "r")),
        (
            dg.MetadataValue.job("j", location_name="l"),
            Metadatum("job", "j"),
        ),
        (
            SCHEMA,
            Metadatum("table_schema", {"columns": [AS_JSON], "constraints": ["primary key (id)"]}),
        ),
        (
            dg.MetadataValue.table([dg.TableRecord({"id": 1})], schema=dg.TableSchema([COLUMN])),
            Metadatum("table", {"records": [{"id": 1}], "columns": [AS_JSON]}),
        ),
        (
            dg.TableColumnLineage({"x": [dg.TableColumnDep(dg.AssetKey("up"), "y")]}),
            Metadatum("column_lineage", {"x": [{"asset_key": ["up"], "column": "y"}]}),
        ),
        (
            dg.CodeReferencesMetadataValue(
                code_references=[
                    dg.LocalFileCodeReference(file_path="f.py", line_number=3),
                    dg.UrlCodeReference(url="http://git/f.py", label="git"),
                ]
            ),
            Metadatum(
                "code_references",
                [
                    {"file": "f.py", "line": 3, "label": None},
                    {"url": "http://git/f.py", "label": "git"},
                ],
            ),
        ),
    ],
)
def test_every_kind_of_metadata_becomes_plain_json(raw: object, expected: Metadatum) -> None:
    converted = metadatum_of(raw)
    assert converted == expected
    assert converted is not None
    assert json.loads(json.dumps(converted.value)) == converted.value


def test_an_object_of_the_users_process_is_left_out_not_shown_as_its_repr() -> None:
    assert metadata_of({"a": object(), "b": "kept"}) == {"b": Metadatum("text", "kept")}


def test_a_python_artifact_is_named_by_module_and_name() -> None:
    assert metadatum_of(dg.MetadataValue.python_artifact(json.JSONDecoder)) == Metadatum(
        "python_artifact", "json.decoder:JSONDecoder"
    )
