"""A table's columns as DataHub's schemaMetadata."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import TypeAlias

from datahub.metadata.schema_classes import (
    ArrayTypeClass,
    BooleanTypeClass,
    BytesTypeClass,
    DateTypeClass,
    EnumTypeClass,
    FixedTypeClass,
    GlobalTagsClass,
    MapTypeClass,
    NullTypeClass,
    NumberTypeClass,
    OtherSchemaClass,
    RecordTypeClass,
    SchemaFieldClass,
    SchemaFieldDataTypeClass,
    SchemaMetadataClass,
    StringTypeClass,
    TagAssociationClass,
    TimeTypeClass,
    UnionTypeClass,
)
from datahub.metadata.urns import DataPlatformUrn, TagUrn

from datahub_eventlog.values import Json, Metadata

COLUMN_SCHEMA = "dagster/column_schema"
UNKNOWN_TYPES = ("", "?")
"""What dbt and Fivetran write where they don't know a column's type."""

DataType: TypeAlias = (
    type[ArrayTypeClass]
    | type[BooleanTypeClass]
    | type[BytesTypeClass]
    | type[DateTypeClass]
    | type[EnumTypeClass]
    | type[FixedTypeClass]
    | type[MapTypeClass]
    | type[NullTypeClass]
    | type[NumberTypeClass]
    | type[RecordTypeClass]
    | type[StringTypeClass]
    | type[TimeTypeClass]
    | type[UnionTypeClass]
)


def column_schema(metadata: Metadata) -> Json | None:
    """The table schema among an asset's metadata, as in `values.Metadatum`, or None.

    `dagster/column_schema` comes first. Some I/O managers use a name of their own, such as
    `dataframe_columns`: a schema by any other name counts if it is the only one.
    """
    schemas = {
        name: each.value
        for name, each in metadata.items()
        if each.kind == "table_schema" and each.value["columns"]
    }
    if COLUMN_SCHEMA in schemas:
        return schemas[COLUMN_SCHEMA]
    return next(iter(schemas.values())) if len(schemas) == 1 else None


def merged_schema(found: Json | None, declared: Json | None) -> Json | None:
    """The columns as a run found them, completed by what their definition says about them."""
    if found is None or declared is None:
        return declared if found is None else found
    by_name = {each["name"].lower(): each for each in declared["columns"]}
    columns = [_merged_column(each, by_name.get(each["name"].lower())) for each in found["columns"]]
    return {"columns": columns, "constraints": found["constraints"] or declared["constraints"]}


def schema_metadata(
    name: str, schema: Json, partition_columns: Collection[str] = ()
) -> SchemaMetadataClass:
    """The schemaMetadata of the Dagster asset of that name; a column named twice counts once."""
    columns = list({each["name"]: each for each in schema["columns"]}.values())
    keys = _primary_keys(columns, schema["constraints"])
    return SchemaMetadataClass(
        schemaName=name,
        platform=DataPlatformUrn("dagster").urn(),
        version=0,
        hash="",
        platformSchema=OtherSchemaClass(rawSchema="\n".join(schema["constraints"])),
        fields=[_field(each, keys, partition_columns) for each in columns],
        primaryKeys=[each["name"] for each in columns if each["name"].lower() in keys] or None,
    )


def data_type(native: str) -> SchemaFieldDataTypeClass:
    """DataHub's type for a native one of any engine; the unknown is a NullType."""
    return SchemaFieldDataTypeClass(type=_type_of(native)())


def _merged_column(found: Json, declared: Json | None) -> Json:
    if declared is None:
        return found
    return {
        **found,
        "type": declared["type"] if found["type"] in UNKNOWN_TYPES else found["type"],
        "description": found["description"] or declared["description"],
        "nullable": found["nullable"] and declared["nullable"],
        "unique": found["unique"] or declared["unique"],
        "constraints": list(dict.fromkeys([*found["constraints"], *declared["constraints"]])),
        "tags": {**declared["tags"], **found["tags"]},
    }


def _field(
    column: Json, keys: Collection[str], partition_columns: Collection[str]
) -> SchemaFieldClass:
    is_key = column["name"].lower() in keys
    return SchemaFieldClass(
        fieldPath=column["name"],
        type=data_type(column["type"]),
        nativeDataType=column["type"],
        nullable=column["nullable"] and not is_key,
        description=column["description"] or None,
        globalTags=_tags(column["tags"]),
        isPartOfKey=is_key,
        isPartitioningKey=True if column["name"] in partition_columns else None,
        jsonProps=_constraints(column),
    )


def _tags(tags: Mapping[str, str]) -> GlobalTagsClass | None:
    names = sorted(f"{key}:{value}" if value else key for key, value in tags.items())
    if not names:
        return None
    return GlobalTagsClass([TagAssociationClass(TagUrn(name).urn()) for name in names])


def _constraints(column: Json) -> str | None:
    """What schemaMetadata has no field for, as the JSON that DataHub keeps beside a column."""
    kept: dict[str, Json] = {"unique": True} if column["unique"] else {}
    if column["constraints"]:
        kept["constraints"] = column["constraints"]
    return json.dumps(kept, sort_keys=True) if kept else None


_PRIMARY_KEY = re.compile(
    r"\s*(?:constraint\s+\S+\s+)?primary[\s_]*key\b\s*(?:\((.*)\))?", re.IGNORECASE
)


def _primary_keys(columns: list[Json], constraints: list[str]) -> frozenset[str]:
    """The key's columns in lower case, said by the columns or by a `PRIMARY KEY (a, b)`."""
    named = {
        each["name"].lower()
        for each in columns
        if any(_PRIMARY_KEY.match(text) for text in each["constraints"])
    }
    for text in constraints:
        match = _PRIMARY_KEY.match(text)
        parts = (match[1] or "").split(",") if match else []
        named.update(part.strip(" \"'`[]").lower() for part in parts)
    return frozenset(named - {""})


_HEAD = re.compile(r"_?[a-z][a-z0-9_]*(?: [a-z]+)*")
_WRAPPER = re.compile(
    r"(?:nullable|lowcardinality|optional)[(\[](.*)[)\]]|sparse\[(\w+).*\]|extension<(.*)>|\"(.*)\""
)
_MODULE = re.compile(r"(?:[a-z_]\w*\.)+(?=[a-z])")
_PYTHON = re.compile(r"<class '(?:.*\.)?(\w+)'>")
_ARRAY = re.compile(r".*\[\d*\]|_(?:int|float|text|varchar|bool|numeric|date|timestamp|uuid).*")
_PANDAS_OBJECT = "object"
"""In lower case it is pandas' type of strings and of anything else; Snowflake's is OBJECT."""


def _type_of(native: str) -> DataType:
    text = native.strip()
    if text == _PANDAS_OBJECT:
        return StringTypeClass
    text = _bare(text.lower())
    match = _HEAD.match(text)
    head = match[0] if match else ""
    if _ARRAY.fullmatch(text) and head not in ("fixed_size_binary", "binary", "varbinary"):
        return ArrayTypeClass
    return next((_TYPES[each] for each in _spellings(head) if each in _TYPES), NullTypeClass)


def _bare(text: str) -> str:
    """The type without what says only that it can be null, or where its class is defined."""
    while match := _WRAPPER.fullmatch(text) or _PYTHON.fullmatch(text):
        text = next(each for each in match.groups() if each is not None)
    return _MODULE.sub("", text, count=1) if _MODULE.match(text) else text


def _spellings(head: str) -> list[str]:
    """The names a type may be listed under: whole, its first word, without `Type`, without bits."""
    first = head.split(" ", maxsplit=1)[0]
    plain = first.removesuffix("type")
    return [head, first, plain, re.sub(r"\d+$", "", plain)]


def _named(kind: DataType, names: str) -> dict[str, DataType]:
    return {each.strip(): kind for each in names.split(",")}


# The part of a name that is left by `_spellings`: `int` stands for int8 to int256.
_TYPES: Mapping[str, DataType] = {
    **_named(BooleanTypeClass, "bool, boolean, logical"),
    **_named(
        NumberTypeClass,
        "int, integer, tinyint, smallint, mediumint, bigint, hugeint, byteint, long, short, byte,"
        "uint, uinteger, utinyint, usmallint, ubigint, uhugeint, bignum, varint, signed, unsigned,"
        "decimal, dec, numeric, bignumeric, bigdecimal, number, fixed, money, smallmoney,"
        "float, double, real, halffloat, half, serial, smallserial, bigserial, year, decfloat,"
        "complex, oid",
    ),
    **_named(
        StringTypeClass,
        "str, string, large_string, string_view, utf, large_utf, text, tinytext, mediumtext,"
        "longtext, ntext, citext, char, character, nchar, bpchar, varchar, nvarchar, varchar2,"
        "nvarchar2, character varying, clob, nclob, unicode, fixedstring, uuid, guid,"
        "uniqueidentifier, xml, name, inet, cidr, macaddr, ipv, ltree, tsvector, hstore, int4range,"
        "int8range, numrange, tsrange, tstzrange, daterange, int4multirange, int8multirange,"
        "nummultirange, tsmultirange, tstzmultirange, datemultirange, tsquery, jsonpath, ipaddress",
    ),
    **_named(
        BytesTypeClass,
        "bytes, bytea, binary, large_binary, binary_view, varbinary, longvarbinary, blob,"
        "tinyblob, mediumblob, longblob, image, raw, bit, bit varying, varbit, bitstring,"
        "varbyte, rowversion, geography, geometry, point, linestring, polygon, raster, box, path,"
        "circle",
    ),
    **_named(FixedTypeClass, "fixed_size_binary"),
    **_named(DateTypeClass, "date"),
    **_named(
        TimeTypeClass,
        "time, timetz, timestamp, timestamptz, timestamp_tz, timestamp_ntz, timestamp_ltz,"
        "timestamp_s, timestamp_ms, timestamp_us, timestamp_ns, timestampntz, timestampltz,"
        "datetime, datetimetz, smalldatetime, datetimeoffset, interval, duration, timedelta,"
        "yearmonthinterval, daytimeinterval, calendarinterval, month_day_nano_interval, period",
    ),
    **_named(EnumTypeClass, "enum, category, categorical, dictionary, set"),
    **_named(
        ArrayTypeClass,
        "array, list, large_list, list_view, fixed_size_list, repeated, vector, halfvec,sparsevec",
    ),
    **_named(MapTypeClass, "map"),
    **_named(
        RecordTypeClass,
        "record, row, struct, object, variant, super, json, jsonb, tuple, nested, dict",
    ),
    **_named(UnionTypeClass, "union, sparse_union, dense_union"),
}
