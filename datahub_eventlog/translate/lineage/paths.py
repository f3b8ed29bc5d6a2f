"""Which dataset is at a path or URL that an I/O manager reports."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

from datahub_eventlog.redact import USER_INFO
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import Metadata, Metadatum, Run

LOCAL = "file"

_PLATFORMS = {
    **dict.fromkeys(("s3", "s3a", "s3n"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "wasb", "wasbs", "az"), "abs"),
}
"""DataHub's platform of a URL's scheme, where it is not the scheme itself."""
_WITHOUT_HOST = frozenset({LOCAL, "hdfs", "dbfs"})
"""Schemes whose host is the service, and no part of the dataset's name."""
_NAMES = frozenset({"path", "uri"})
"""Metadata that holds a path as plain text or URL."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?://([^/]*))?(/.*)?$", re.DOTALL)
_BLOB = re.compile(r"[a-z0-9]+\.(?:blob|dfs)\.core\.windows\.net$")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|[/\\]|[A-Za-z]:[/\\]|file:$")
_HOST = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]+://[^/]*")
_ROOT = re.compile(
    r"(?:(?i:https?)://[^/]*\.(?:blob|dfs)\.core\.windows\.net/[^/]+|"
    r"[A-Za-z][A-Za-z0-9+.-]*:(?://[^/]*)?)[/\\]*"
)
"""A bucket, server or drive as a whole."""
_SEPARATOR = re.compile(r"[/\\]")
_DATE = re.compile(r"\d{4}-?\d\d")
_TO_THE_MINUTE = re.compile(r"\d{4}-?\d\d-?\d\d[-T_ ]?\d\d:?\d\d")
_RUN_STORAGE = re.compile(r"(?:^|/)storage/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:/|$)")


class NoDataset(ValueError):
    """There is no dataset at a path; the message says why."""


def paths(metadata: Metadata) -> Iterator[str]:
    """The paths and URLs that the metadata of an input or output names."""
    for name, metadatum in sorted(metadata.items()):
        if _is_path(name, metadatum):
            yield metadatum.value


def dataset_of_path(
    path: str, run: Run | None, context: Context, partition: str | None = None
) -> str | None:
    """The dataset at that path, or None where there is none; see `place_of`.

    Raises `urns.InvalidUrn` if no urn can be made of it.
    """
    try:
        return dataset_at(path, run, context, partition)
    except NoDataset:
        return None


def dataset_at(path: str, run: Run | None, context: Context, partition: str | None = None) -> str:
    """As `dataset_of_path`; raises `NoDataset` where there is none."""
    platform, name = place_of(path, run, context, partition)
    instance = context.config.platform_instance_map.get(platform)
    return urns.dataset_urn(
        platform, f"{instance}.{name}" if instance else name, context.config.env
    )


def place_of(
    path: str, run: Run | None, context: Context, partition: str | None = None
) -> tuple[str, str]:
    """The platform and the name of the dataset at that path, of which this may be one partition.

    Raises `NoDataset` if there is none.
    """
    if is_scratch(path, run, context):
        raise NoDataset("it is where Dagster keeps what it passes between steps")
    if not _ABSOLUTE.match(path.strip()):
        raise NoDataset("a path relative to where the process ran names nothing elsewhere")
    platform, name = _located(without_partition(_address(path), partition))
    if not name:
        raise NoDataset("it names no file, folder or object")
    return platform, name


def without_partition(path: str, partition: str | None) -> str:
    """The folder of a partitioned asset: I/O managers put each partition into a file in it.

    Names of the same shape count as well, since an input may be of another partition, such as
    another day. Raises `NoDataset` if the path is that of one partition and no folder is the
    asset's own.
    """
    if partition is None:
        return path
    keys = partition.split("|")
    same = "|".join(_mention(key) for key in keys)
    alike = "|".join(_digits(re.escape(key)) for key in keys)
    hive = re.search(rf"(?<=.)[/\\]\w+=(?:{same})(?:[/\\].*)?$", path)
    # The most segments that a path can split a key into.
    longest = max(len(re.findall(r"\d+|[^\W\d_]+|[/\\]", key)) + 1 for key in keys)
    end = hive.start() if hive else _end_of_folder(path, f"(?:{same}|{alike})", longest)
    folder = path[:end]
    is_whole = folder != path and _ROOT.fullmatch(folder)
    if is_whole or re.search(rf"(?<![^\W_])(?:{same})(?![^\W_])", _HOST.sub("", folder)):
        raise NoDataset("it is one partition's, and no folder of it is known to be the asset's own")
    return folder


def _end_of_folder(path: str, key: str, longest: int) -> int:
    """Where the keys that end the path begin; a key has up to `longest` segments.

    It goes segment by segment: one pattern for all would try every way to divide the path.
    """
    is_key, is_file = re.compile(key), re.compile(rf"{key}(?:\.\w+)*")
    last = len(path) - path.endswith(("/", "\\"))
    ends, begin = deque([(last, True)], longest), len(path)
    for start in reversed([separator.start() for separator in _SEPARATOR.finditer(path, 1, last)]):
        begins = any(
            is_next and (is_file if end == last else is_key).fullmatch(path, start + 1, end)
            for end, is_next in ends
        )
        ends.append((start, begins))
        if begins:
            begin = start
        elif not any(is_next for _, is_next in ends):
            break
    return begin


def is_scratch(path: str, run: Run | None, context: Context) -> bool:
    """Whether Dagster keeps there what it passes between steps.

    That is its own storage directory, and whatever has a run's id in its path: this run's, or
    that of a run which it continues.
    """
    plain = _slashed(path)
    if _RUN_STORAGE.search(plain) or any(run_id in plain for run_id in _run_ids(run)):
        return True
    local = _slashed(_located(_address(path))[1])
    roots = [_slashed(root).rstrip("/") for root in context.scratch]
    return any(local == root or local.startswith(f"{root}/") for root in roots if root)


def _mention(key: str) -> str:
    """A pattern of how paths write a partition's key, or one part of it.

    A date has any separators or none, and every date matches: an input can be of another day.
    ISO's T stands before a time of day, and seconds can follow that.
    """
    if not _DATE.match(key):
        return re.escape(key)
    date = _BETWEEN.join(_digits(part) for part in re.findall(r"\d+|[^\W\d_]+", key))
    return rf"{date}(?:[-_:.+ ]*\d\d)?" if _TO_THE_MINUTE.fullmatch(key) else date


def _digits(pattern: str) -> str:
    return re.sub(r"\d", r"\\d", pattern)


_BETWEEN = r"(?:[-_:.+ T]*|[/\\](?:\w+=)?)"


def _is_path(name: str, metadatum: Metadatum) -> bool:
    if not isinstance(metadatum.value, str) or not metadatum.value.strip():
        return False
    if metadatum.kind == "path":
        return True
    looks = metadatum.value.startswith("/") or "://" in metadatum.value
    return name in _NAMES and metadatum.kind in {"text", "url"} and looks


def _address(path: str) -> str:
    """The path without query, fragment and password, since a signed URL differs each time."""
    path = path.strip()
    if "://" not in path:
        return path
    return re.split(r"[?#]", USER_INFO.sub(r"\g<1>", path), maxsplit=1)[0]


def _located(path: str) -> tuple[str, str]:
    """The platform and the dataset's name on it."""
    url = _URL.match(path)
    if url is None:
        return LOCAL, _without_end(path)
    scheme, host, rest = url[1].lower(), url[2] or "", url[3] or ""
    if scheme in {"http", "https"}:
        server = host.rpartition("@")[2]
        if _BLOB.search(server):
            return "abs", _without_end(rest).lstrip("/")
        return scheme, _without_end(f"{server}{rest}")
    platform = _PLATFORMS.get(scheme, scheme)
    if scheme in _WITHOUT_HOST:
        return platform, _without_end(rest)
    owner, _, service = host.rpartition("@")
    # abfss://container@account: the container is the bucket; elsewhere it is a user's name
    bucket = owner or service if platform == "abs" else service
    return platform, _without_end(f"{bucket}{rest}").lstrip("/")


def _without_end(name: str) -> str:
    return name.rstrip("/") or name[:1]


def _slashed(path: str) -> str:
    return path.strip().replace("\\", "/")


def _run_ids(run: Run | None) -> tuple[str, ...]:
    if run is None:
        return ()
    return tuple(filter(None, (run.run_id, run.parent_run_id, run.root_run_id)))
