"""DataHub's type of a column, for what engines and libraries write as its type.

The texts are those of `str(dtype)`, `repr(dtype)` and of engines' catalogs. DataHub has maps of its
own for some engines (`datahub.ingestion.source.sql.sql_types`): where theirs agree with each other,
the table here is the same; a test holds them together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from datahub.metadata.schema_classes import (
    ArrayTypeClass,
    BooleanTypeClass,
    BytesTypeClass,
    DateTypeClass,
    EnumTypeClass,
    FixedTypeClass,
    MapTypeClass,
    NullTypeClass,
    NumberTypeClass,
    RecordTypeClass,
    SchemaFieldDataTypeClass,
    StringTypeClass,
    TimeTypeClass,
    UnionTypeClass,
)

DataType: TypeAlias = (
    ArrayTypeClass
    | BooleanTypeClass
    | BytesTypeClass
    | DateTypeClass
    | EnumTypeClass
    | FixedTypeClass
    | MapTypeClass
    | NullTypeClass
    | NumberTypeClass
    | RecordTypeClass
    | StringTypeClass
    | TimeTypeClass
    | UnionTypeClass
)
Kind: TypeAlias = Callable[[], DataType]

CHARACTERS_READ = 10_000
"""Characters of a type that are read: its beginning decides."""
DEEPEST_NESTING = 10
"""The number of types that may enclose the one that counts, as in `DataType(Nullable(Int64))`."""


def data_type(native: str) -> SchemaFieldDataTypeClass:
    """DataHub's type for a native one of any engine or library; NullType for an unknown one."""
    return SchemaFieldDataTypeClass(type=_type_of(one_line(native)[:CHARACTERS_READ]))


def one_line(native: str) -> str:
    """The type in one line without spaces around it."""
    return " ".join(native.split())


def _type_of(text: str) -> DataType:
    for _ in range(DEEPEST_NESTING):
        text = _bare(text)
        if special := next((kind for like, kind in _SPECIAL if like.match(text)), None):
            return special()
        if numpy := _NUMPY.fullmatch(text):
            return _NUMPY_KINDS[numpy[1] or numpy[2]]()
        if array := _SUFFIXED.fullmatch(text) or _PREFIXED.fullmatch(text):
            return _array([array[1]])
        name, arguments = _parts(text)
        kind = _known(name)
        if kind is not None and not _repeats(name, arguments):
            return _NESTED[kind](arguments) if kind in _NESTED else kind()
        if not arguments:
            break
        text = arguments[0]
    return NullTypeClass()


def _bare(text: str) -> str:
    """The type without its storage backend and the module of its class."""
    text = _BACKEND.sub("", text)
    if match := _PYTHON.fullmatch(text):
        text = match[1] or match[2]
    text = text.strip(" \"'`")
    if (match := _OPTIONAL.match(text)) or (match := _VALUES.search(text)):
        return match[1]
    return _MODULE.sub("", text, count=1)


def _parts(text: str) -> tuple[str, list[str]]:
    """A type's name in lower case and the arguments in its brackets: `decimal(10, 2)`."""
    begin = re.search(r"[<(\[{]", text)
    if begin is None:
        return _name(text), []
    arguments, depth, start = [], 1, begin.end()
    for index in range(begin.end(), len(text)):
        depth += (text[index] in "<([{") - (text[index] in ">)]}")
        if depth == 0 or (depth == 1 and text[index] == ","):
            arguments.append(text[start:index].strip())
            start = index + 1
        if depth == 0:
            break
    return _name(text[: begin.start()]), [argument for argument in arguments if argument]


def _name(text: str) -> str:
    match = _NAME.match(text.strip().lower())
    return match[0] if match else ""


def _known(name: str) -> Kind | None:
    """Listed whole, by its first word, without `Type` or `DType`, or without its bits."""
    first = name.split(" ", maxsplit=1)[0].replace("_", "")
    short = re.sub(r"(?<=.)d?type$", "", first)
    names = (name, first, short, re.sub(r"\d+$", "", short))
    return next((_TYPES[name] for name in names if name in _TYPES), None)


def _repeats(name: str, arguments: Sequence[str]) -> bool:
    """Whether the argument is the type itself, as in PyArrow's `ListType(list<item: int64>)`."""
    inner = _parts(arguments[0])[0].replace("_", "") if arguments else ""
    return bool(inner) and name == f"{inner}type"


def _array(arguments: Sequence[str]) -> ArrayTypeClass:
    items = [_unnamed(item) for item in arguments[:1]]
    return ArrayTypeClass(nestedType=[item for item in items if item] or None)


def _map(arguments: Sequence[str]) -> MapTypeClass:
    if len(arguments) < len(("key", "value")):
        return MapTypeClass()
    if entries := _ENTRIES.match(", ".join(arguments)):
        return MapTypeClass(keyType=entries[1], valueType=entries[2])
    return MapTypeClass(keyType=_unnamed(arguments[0]), valueType=_unnamed(arguments[1]))


def _unnamed(argument: str) -> str:
    """The type of an argument that may have a name, as in `list<item: int64 not null>`."""
    if match := _FIELD.match(argument):
        return match[1]
    text = re.sub(r"^(?:non-null\s+|\d+ x |\w+:\s*)", "", argument)
    return re.sub(r"\s+not null$", "", text, flags=re.IGNORECASE)


_NAME = re.compile(r"_?[a-z][a-z0-9_]*(?: [a-z]+)*")
_BACKEND = re.compile(r"\[(?:pyarrow|python|pyarrow_numpy)\]$")
_PYTHON = re.compile(r"<class '([^']*)'>|<([A-Za-z]\w*Dtype)\b.*>")
_OPTIONAL = re.compile(r"(?:typing\.)?(?:Optional|Union)\[([^,\[\]]+)(?:, None(?:Type)?)?\]$")
_VALUES = re.compile(r"^run_?end_?encoded[<(].*\bvalues\"?: (.*)[>)]$", re.IGNORECASE)
_MODULE = re.compile(r"^(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")
_SUFFIXED = re.compile(r"(?!(?:fixed|binary|varbinary|fixed_size_\w+)\b)(.*)\[\d*\]", re.IGNORECASE)
_PREFIXED = re.compile(
    r"_((?:int|float|text|varchar|bool|numeric|date|timestamp|uuid)\w*)", re.IGNORECASE
)
"""How Postgres calls the type of an array of these."""
_NUMPY = re.compile(
    r"dtype\('[<>|=]?([biufcmMOSUV])\d*(?:\[\d*\w+\])?'.*\)|"
    r"[<>|=]([biufcmMOSUV])\d*(?:\[\d*\w+\])?"
)
_FIELD = re.compile(r"Field \{.*?data_type: (.*?), nullable: ")
_ENTRIES = re.compile(
    r'"\w+": non-null Struct\("\w+": non-null (.*?), "\w+": (?:non-null )?(.*)\),'
)


def _named(kind: Kind, names: str) -> dict[str, Kind]:
    return {name.strip().replace("_", ""): kind for name in names.split(",")}


_SPECIAL: tuple[tuple[re.Pattern[str], Kind], ...] = (
    # pandas' and numpy's type of strings and of anything else; Snowflake's is OBJECT.
    (re.compile(r"(?:object_?|O)$"), StringTypeClass),
    # pandas' ranges, which are no spans of time; DataHub has ranges as strings.
    (re.compile(r"interval\[.*, (?:right|left|both|neither)\]"), StringTypeClass),
    # Iceberg's; elsewhere FIXED is a number.
    (re.compile(r"fixed\[\d+\]$"), FixedTypeClass),
    # numpy's records.
    (re.compile(r"\[\("), RecordTypeClass),
)
_NUMPY_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys("iufc", NumberTypeClass),
    **dict.fromkeys("mM", TimeTypeClass),
    **dict.fromkeys("OU", StringTypeClass),
    **dict.fromkeys("SV", BytesTypeClass),
    "b": BooleanTypeClass,
}
_NESTED: Mapping[Kind, Callable[[Sequence[str]], DataType]] = {
    ArrayTypeClass: _array,
    MapTypeClass: _map,
}
"""Types whose element types DataHub keeps."""

# The part of a name that is left by `_known`: `int` stands for int8 to int256.
_TYPES: Mapping[str, Kind] = {
    **_named(BooleanTypeClass, "bool, boolean, logical"),
    **_named(
        NumberTypeClass,
        "int, integer, tinyint, smallint, mediumint, bigint, hugeint, byteint, long, short, byte,"
        "uint, uinteger, utinyint, usmallint, ubigint, uhugeint, bignum, varint, signed, unsigned,"
        "decimal, dec, numeric, bignumeric, bigdecimal, number, fixed, money, smallmoney,"
        "float, double, real, halffloat, half, serial, smallserial, bigserial, year, decfloat,"
        "complex, oid, int2vector, longlong, ulonglong, longdouble, clongdouble, intc, uintc, intp,"
        "uintp, ubyte, ushort, ulong, binary_double, binary_float, bfloat",
    ),
    **_named(
        StringTypeClass,
        "str, string, large_string, string_view, utf, large_utf, utf8_view, text, tinytext,"
        "mediumtext, longtext, ntext, citext, char, character, nchar, bpchar, varchar, nvarchar,"
        "varchar2, nvarchar2, character varying, clob, nclob, unicode, fixedstring, uuid, guid,"
        "uniqueidentifier, xml, name, inet, cidr, macaddr, ipv, ltree, tsvector, hstore, int4range,"
        "int8range, numrange, tsrange, tstzrange, daterange, int4multirange, int8multirange,"
        "nummultirange, tsmultirange, tstzmultirange, datemultirange, tsquery, jsonpath, ipaddress,"
        "range, long varchar, national",
    ),
    **_named(
        BytesTypeClass,
        "bytes, bytea, binary, large_binary, binary_view, varbinary, longvarbinary, blob,"
        "tinyblob, mediumblob, longblob, image, raw, bit, bit varying, varbit, bitstring,"
        "varbyte, rowversion, geography, geometry, point, linestring, polygon, raster, box, path,"
        "circle, lseg, line, long varbinary, long raw",
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
    **_named(EnumTypeClass, "enum, category, categorical, dictionary, set, literal, anyenum"),
    **_named(
        ArrayTypeClass,
        "array, list, large_list, list_view, fixed_size_list, repeated, vector, halfvec,sparsevec,"
        "large_list_view, anyarray",
    ),
    **_named(MapTypeClass, "map"),
    **_named(
        RecordTypeClass,
        "record, row, struct, object, variant, sql_variant, super, json, jsonb, tuple, nested,dict",
    ),
    **_named(UnionTypeClass, "union, sparse_union, dense_union"),
}
