from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from datahub.ingestion.source.sql import sql_types
from hypothesis import given
from hypothesis import strategies as st
from native_types import NATIVE_TYPES

from datahub_eventlog.translate.column_types import data_type
from datahub_eventlog.translate.schemas import (
    column_schema,
    merged_schema,
    schema_metadata,
)
from datahub_eventlog.values import Metadatum

TYPES = {
    "BooleanTypeClass": "BOOLEAN bool boolean Boolean BooleanType",
    "NumberTypeClass": "NUMBER(38,0) INT64 FLOAT64 BIGNUMERIC(76,38) HUGEINT bigint LongType "
    "decimal(10,2) int64 Int64 int64[pyarrow] float32 uint8 halffloat decimal128(10,2) TINYINT(1) "
    "numeric DOUBLE double Nullable(Int32) money UBIGINT Optional[int] DECFLOAT oid int(11)",
    "StringTypeClass": "VARCHAR(16777216) STRING text StringType() string[pyarrow] large_string "
    'Utf8 uuid FixedString(16) LowCardinality(Nullable(String)) object daterange str "char" '
    "tsquery pandera.String RANGE<DATE>",
    "BytesTypeClass": "BINARY(16) BYTES bytea BLOB varbinary binary GEOGRAPHY bit(3)",
    "FixedTypeClass": "fixed_size_binary[16]",
    "DateTypeClass": "DATE date date32[day] DateType",
    "TimeTypeClass": "TIMESTAMP_NTZ(9) DATETIME timestamptz TIMESTAMP_S datetime64[ns] time64[us] "
    "period[D] duration[ns] timedelta64[ns] TimestampType TimestampNTZType DateTime64(3) "
    "interval TIME",
    "EnumTypeClass": "ENUM('a','b') category Categorical dictionary<values=string>",
    "ArrayTypeClass": "ARRAY ARRAY<STRING> integer[] INTEGER[3] _int4 array<string> List(Int64) "
    "VECTOR(FLOAT,256) list<item:string> ArrayType(StringType()) varchar(20)[] typing.List[int]",
    "MapTypeClass": "MAP(VARCHAR,INTEGER) map<string,int>",
    "RecordTypeClass": "VARIANT OBJECT JSON jsonb STRUCT<a> struct<a:int> Struct({'a':Int64}) row",
    "UnionTypeClass": "UNION(num)",
    "NullTypeClass": "? null Null whatever",
}
LONG_TYPES = {
    "character varying(255)": "StringTypeClass",
    "double precision": "NumberTypeClass",
    "timestamp without time zone": "TimeTypeClass",
    "timestamp(6) with time zone": "TimeTypeClass",
    "TIMESTAMP WITH TIME ZONE": "TimeTypeClass",
    "datetime64[ns, UTC]": "TimeTypeClass",
    "Datetime(time_unit='us', time_zone=None)": "TimeTypeClass",
    "Decimal(precision=10, scale=2)": "NumberTypeClass",
    "<class 'datetime.date'>": "DateTypeClass",
    "": "NullTypeClass",
    "bit varying(3)": "BytesTypeClass",
    "DayTimeIntervalType(0, 3)": "TimeTypeClass",
    "Sparse[float64, nan]": "NumberTypeClass",
    "extension<arrow.uuid>": "StringTypeClass",
    "dictionary<values=string, indices=int32, ordered=0>": "EnumTypeClass",
    "STRUCT(a INTEGER, b VARCHAR)[]": "ArrayTypeClass",
    "ARRAY<STRUCT<a INT64, b ARRAY<STRING>>>": "ArrayTypeClass",
    "struct<a: list<item: int64>, b: string>": "RecordTypeClass",
    "MAP(VARCHAR, STRUCT(a INTEGER))": "MapTypeClass",
    "StructType([StructField('a', IntegerType(), True)])": "RecordTypeClass",
    "MapType(StringType(), LongType(), True)": "MapTypeClass",
    "Struct({'a': List(Int64)})": "RecordTypeClass",
    "tinyint unsigned": "NumberTypeClass",
}


NESTED: dict[str, dict[str, Any]] = {
    "list<item: int64>": {"nestedType": ["int64"]},
    "list<item: struct<a: int64> not null>": {"nestedType": ["struct<a: int64>"]},
    "ListType(list<item: int64>)": {"nestedType": ["int64"]},
    "fixed_size_list<item: float>[3]": {"nestedType": ["float"]},
    "arro3.core.DataType<List(Int64)>\n": {"nestedType": ["Int64"]},
    "arro3.core.DataType<FixedSizeList(3 x Float32)>\n": {"nestedType": ["Float32"]},
    'List(Field { name: "item", data_type: Int64, nullable: true })': {"nestedType": ["Int64"]},
    "List(List(String))": {"nestedType": ["List(String)"]},
    "Array(Float64, shape=(3,))": {"nestedType": ["Float64"]},
    "ArrayType(StringType(), True)": {"nestedType": ["StringType()"]},
    "STRUCT(a INTEGER, b VARCHAR[])[]": {"nestedType": ["STRUCT(a INTEGER, b VARCHAR[])"]},
    "varchar(20)[][]": {"nestedType": ["varchar(20)[]"]},
    "_int4": {"nestedType": ["int4"]},
    "ARRAY<STRUCT<a INT64, b STRING>>": {"nestedType": ["STRUCT<a INT64, b STRING>"]},
    "ARRAY": {},
    "map<string, list<item: int32>>": {"keyType": "string", "valueType": "list<item: int32>"},
    "MAP(VARCHAR, STRUCT(a INT, b INT))": {
        "keyType": "VARCHAR",
        "valueType": "STRUCT(a INT, b INT)",
    },
    'arro3.core.DataType<Map("entries": non-null Struct("key": non-null Utf8, "value": Int32),'
    " unsorted)>": {"keyType": "Utf8", "valueType": "Int32"},
    "map": {},
    "struct<a: int64>": {},
}

ENGINES = (
    "ATHENA_SQL",
    "BIGQUERY",
    "POSTGRES",
    "SNOWFLAKE",
    "SPARK_SQL",
    "TRINO_SQL",
    "VERTICA_SQL",
)
ELSEWHERE = {
    "DATETIME": "a date for BigQuery and Snowflake, a time for Vertica",
    "jsonb": "bytes, where json is a record",
    "map": "a record for Spark, a map for Trino and Athena",
    "super": "a NullType, where Snowflake's VARIANT is a record",
    '"any"': "of functions, no column's",
    "xml": "a record for Postgres in acryl-datahub 1.1, a string in the newest",
    "xid8[]": "no type of DataHub in acryl-datahub 1.1, an array in the newest",
}
"""What DataHub's maps have otherwise, of which the one here is the type that another has."""


def datahubs_own() -> Iterator[tuple[str, str]]:
    """The types that the installed version of DataHub has maps for."""
    for engine in ENGINES:
        for native, kind in getattr(sql_types, f"{engine}_TYPES_MAP").items():
            if kind is not None and native not in ELSEWHERE:
                yield native, f"{kind.__name__.removesuffix('Class')}Class"


def column(name: str, native: str = "string", **more: Any) -> dict[str, Any]:
    default: dict[str, Any] = {
        "name": name,
        "type": native,
        "description": None,
        "nullable": True,
        "unique": False,
        "constraints": [],
        "tags": {},
    }
    return {**default, **more}


def table(*columns: dict[str, Any], constraints: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"columns": list(columns), "constraints": list(constraints)}


def fields(schema: dict[str, Any], *partition_columns: str) -> dict[str, Any]:
    aspect = schema_metadata("a.b", schema, partition_columns)
    assert aspect.validate()
    return {each.fieldPath: each for each in aspect.fields}


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        *((native, expected) for expected, names in TYPES.items() for native in names.split()),
        *LONG_TYPES.items(),
    ],
)
def test_a_native_type_of_any_engine_has_datahubs_type(native: str, expected: str) -> None:
    assert type(data_type(native).type).__name__ == expected


@given(st.text())
def test_whatever_is_written_as_a_type_is_taken(native: str) -> None:
    assert data_type(native).validate()


@pytest.mark.parametrize("library", NATIVE_TYPES)
def test_a_type_as_libraries_write_it_has_datahubs_type(library: str) -> None:
    expected = {
        native: f"{kind}TypeClass"
        for kind, natives in NATIVE_TYPES[library].items()
        for native in natives
    }
    assert {each: type(data_type(each).type).__name__ for each in expected} == expected


def test_a_type_is_the_one_that_datahubs_own_maps_have() -> None:
    expected = dict(datahubs_own())
    assert len(expected) > 100
    assert {each: type(data_type(each).type).__name__ for each in expected} == expected


@pytest.mark.parametrize("native", NESTED)
def test_a_nested_type_says_what_it_is_made_of(native: str) -> None:
    assert data_type(native).validate()
    assert dict(data_type(native).type.to_obj()) == NESTED[native]


@pytest.mark.parametrize("text", ["(" * 9999, "a(" * 9999, "list<" * 9999, "x" * 9999 + "[3]"])
def test_a_type_that_never_ends_is_read_no_further_than_its_beginning(text: str) -> None:
    assert data_type(text).validate()


def test_a_native_type_is_kept_in_one_line() -> None:
    schema = table(column("a", " arro3.core.DataType<Utf8>\n"), column("b", "struct<\n  a: int>"))
    found = fields(schema)
    assert found["a"].nativeDataType == "arro3.core.DataType<Utf8>"
    assert found["b"].nativeDataType == "struct< a: int>"


def test_a_column_keeps_its_native_type_description_and_tags() -> None:
    found = fields(
        table(column("id", "NUMBER(38,0)", description="The key.", tags={"pii": "", "level": "3"}))
    )["id"]
    assert (found.nativeDataType, found.description) == ("NUMBER(38,0)", "The key.")
    tags = [each.tag for each in found.globalTags.tags]
    assert tags == ["urn:li:tag:level:3", "urn:li:tag:pii"]


def test_without_tags_a_column_has_no_tags_aspect() -> None:
    assert fields(table(column("id")))["id"].globalTags is None


@pytest.mark.parametrize("text", ["primary key", "PRIMARY KEY", "primary_key"])
def test_a_column_that_is_a_primary_key_is_part_of_the_key(text: str) -> None:
    schema = table(column("id", constraints=[text]), column("v"))
    found = fields(schema)
    assert (found["id"].isPartOfKey, found["id"].nullable) == (True, False)
    assert (found["v"].isPartOfKey, found["v"].nullable) == (False, True)
    assert schema_metadata("a", schema).primaryKeys == ["id"]


def test_a_primary_key_can_be_a_constraint_of_the_table() -> None:
    constraint = 'CONSTRAINT pk PRIMARY KEY ("Id", day)'
    schema = table(column("id"), column("day"), column("v"), constraints=(constraint,))
    aspect = schema_metadata("a", schema)
    assert aspect.primaryKeys == ["id", "day"]
    assert aspect.to_obj()["platformSchema"].popitem()[1] == {"rawSchema": constraint}


def test_a_word_that_only_begins_like_a_primary_key_is_none() -> None:
    assert (
        schema_metadata("a", table(column("id", constraints=["primary keyless"]))).primaryKeys
        is None
    )


def test_uniqueness_and_other_constraints_are_kept_beside_the_column() -> None:
    found = fields(table(column("id", unique=True, constraints=["> 0"]), column("v")))
    assert json.loads(found["id"].jsonProps) == {"unique": True, "constraints": ["> 0"]}
    assert found["v"].jsonProps is None


def test_the_column_of_the_partitions_is_marked() -> None:
    found = fields(table(column("day"), column("v")), "day")
    assert (found["day"].isPartitioningKey, found["v"].isPartitioningKey) == (True, None)


def test_a_column_named_twice_counts_once() -> None:
    assert list(fields(table(column("a", "int"), column("a", "text")))) == ["a"]


def test_the_found_columns_are_completed_by_the_declared_ones() -> None:
    found = table(column("ID", "int64"), column("new", "text"), column("guess", "?"))
    declared = table(
        column("id", "?", description="The key.", nullable=False, tags={"pii": ""}),
        column("guess", "DATE"),
        column("gone"),
    )
    merged = merged_schema(found, declared)
    assert merged is not None
    by_name = {each["name"]: each for each in merged["columns"]}
    assert list(by_name) == ["ID", "new", "guess"]
    assert by_name["ID"]["type"] == "int64"
    assert by_name["ID"]["description"] == "The key."
    assert by_name["ID"]["nullable"] is False
    assert by_name["ID"]["tags"] == {"pii": ""}
    assert by_name["guess"]["type"] == "DATE"


def test_what_is_known_on_one_side_only_counts_as_it_is() -> None:
    one = table(column("id"))
    assert merged_schema(one, None) is one
    assert merged_schema(None, one) is one
    assert merged_schema(None, None) is None


def test_the_column_schema_is_found_by_its_name_or_by_being_the_only_one() -> None:
    named, other = table(column("a")), table(column("b"))
    both = {
        "dagster/column_schema": Metadatum("table_schema", named),
        "dataframe_columns": Metadatum("table_schema", other),
    }
    assert column_schema(both) is named
    assert column_schema({"dataframe_columns": both["dataframe_columns"]}) is other
    two = {"x": Metadatum("table_schema", other), "y": Metadatum("table_schema", other)}
    assert column_schema(two) is None
    assert column_schema({"dagster/column_schema": Metadatum("table_schema", table())}) is None
