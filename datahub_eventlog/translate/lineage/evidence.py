"""Which table of a data platform an asset is: the evidence, the strongest first.

DataHub knows the same table under the urn that its own source for the platform gave it. An asset
is linked to it only where something names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from datahub_eventlog.config import FABRICS
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.asset_details import (
    DATAHUB_URN,
    PATH,
    TABLE_NAME,
    TABLE_URI,
    URI,
    AssetDetails,
)
from datahub_eventlog.translate.lineage.paths import NoDataset, dataset_at, paths, place_of
from datahub_eventlog.translate.lineage.platforms import (
    DELTA_LAKE,
    FILES,
    storing_platform,
    table_on,
)
from datahub_eventlog.values import AssetKey

CONVERTER = "asset_keys_to_dataset_urn_converter"
KEY = "asset key"
LONG_KEY = 3
"""The parts that a key needs to name a dataset: environment, platform, name."""


@dataclass(frozen=True)
class Evidence:
    """Something that may name an asset's dataset on a data platform."""

    source: str
    """Where it stands, such as `dagster/table_name` or `asset key`."""
    text: str
    """What stands there."""
    urn: str | None = None
    """The dataset, if it names one."""
    reason: str | None = None
    """Why it names none."""
    is_wrong: bool = False
    """It was meant to name a dataset and can't: a mistake of whoever wrote it."""


def evidence_of(details: AssetDetails, context: Context) -> tuple[Evidence, ...]:
    """All evidence of the asset's dataset, the strongest first."""
    return tuple(item for items in ranked(details, context).values() for item in items)


def ranked(details: AssetDetails, context: Context) -> Mapping[str, tuple[Evidence, ...]]:
    """The evidence by the place where it stands, the strongest first; most places have none."""
    return {
        DATAHUB_URN: tuple(_of_datahub_urn(details)),
        CONVERTER: tuple(_of_converter(details, context)),
        KEY: tuple(_of_key(details, context)),
        TABLE_URI: tuple(_of_table_uri(details, context)),
        TABLE_NAME: tuple(_of_table_name(details, context)),
        URI: tuple(_of_uri(details, context)),
        PATH: tuple(_of_path(details, context)),
    }


def winner(evidence: tuple[Evidence, ...]) -> Evidence | None:
    """The strongest that names a dataset, if any does."""
    return next((item for item in evidence if item.urn is not None), None)


def dataset_of_key(key: AssetKey, context: Context) -> str | None:
    """The dataset that a long key names by itself, if it does."""
    evidence = winner(tuple(_of_key(AssetDetails(key), context)))
    return evidence.urn if evidence else None


def _of_datahub_urn(details: AssetDetails) -> Iterator[Evidence]:
    if text := details.text(DATAHUB_URN):
        yield _named(DATAHUB_URN, text, partial(urns.checked_dataset_urn, text))


def _of_converter(details: AssetDetails, context: Context) -> Iterator[Evidence]:
    if text := context.platform_urns.get(details.key):
        make = partial(urns.checked_dataset_urn, text)
        yield _named(CONVERTER, "/".join(details.key), make)


def _of_key(details: AssetDetails, context: Context) -> Iterator[Evidence]:
    if not context.config.capture_dataset_from_asset_key or len(details.key) < LONG_KEY:
        return
    env, platform, *name = details.key
    text = "/".join(details.key)
    if env.upper() not in FABRICS:
        yield Evidence(KEY, text, reason=f"{env!r} is none of DataHub's environments")
        return
    make = partial(urns.platform_dataset_urn, platform, ".".join(name), context, env=env.upper())
    yield _named(KEY, text, make)


def _of_table_uri(details: AssetDetails, context: Context) -> Iterator[Evidence]:
    uri = details.text(TABLE_URI)
    if uri is None:
        return
    platform = storing_platform(details)
    if platform.name == DELTA_LAKE:
        yield _named(TABLE_URI, uri, partial(_at, uri, details, context))
    else:
        other = f"it names tables of {DELTA_LAKE}, and this is one of {platform.name}"
        yield Evidence(TABLE_URI, uri, reason=other if platform.name else platform.reason)


def _of_table_name(details: AssetDetails, context: Context) -> Iterator[Evidence]:
    name = details.table_name
    if name is None:
        return
    platform = storing_platform(details)
    if details.text("dagster-dbt/materialization_type") == "ephemeral":
        yield Evidence(TABLE_NAME, name, reason="an ephemeral dbt model is no table")
    elif platform.name is None:
        yield Evidence(TABLE_NAME, name, reason=platform.reason)
    elif platform.name == DELTA_LAKE and details.is_of_delta_io_manager:
        reason = (
            "the I/O manager writes `deltalake` for every database: a table of Delta Lake is named"
            f" by its location, see {TABLE_URI}"
        )
        yield Evidence(TABLE_NAME, name, reason=reason)
    else:
        table = table_on(platform.name, details)
        make = partial(urns.platform_dataset_urn, platform.name, table, context)
        yield _named(TABLE_NAME, f"{name} in {platform.name}", make)


def _of_uri(details: AssetDetails, context: Context) -> Iterator[Evidence]:
    uri = details.text(URI)
    if uri is None:
        return
    named = _named(URI, uri, partial(_at, uri, details, context))
    if named.urn is not None and urns.platform_of(named.urn) not in {*FILES, DELTA_LAKE}:
        named = Evidence(URI, uri, reason="it is no file, folder or object")
    yield named


def _of_path(details: AssetDetails, context: Context) -> Iterator[Evidence]:
    metadatum = details.metadata.get(PATH)
    for path in paths({PATH: metadatum} if metadatum else {}):
        yield _named(PATH, path, partial(_at, path, details, context))


def _at(path: str, details: AssetDetails, context: Context) -> str:
    """The dataset at a path; of a table of Delta Lake, as DataHub's source for it has it."""
    if storing_platform(details).name != DELTA_LAKE:
        return dataset_at(path, details.run, context, details.partition)
    _, name = place_of(path, details.run, context, details.partition)
    return urns.platform_dataset_urn(DELTA_LAKE, name.strip("/"), context)


def _named(source: str, text: str, make: Callable[[], str]) -> Evidence:
    try:
        return Evidence(source, text, make())
    except NoDataset as error:
        return Evidence(source, text, reason=str(error))
    except urns.InvalidUrn as error:
        return Evidence(source, text, reason=str(error), is_wrong=True)
