"""The urns of everything that is sent.

All of them are canonical: parts are encoded as by DataHub's own urn classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from urllib.parse import quote

from datahub.metadata.urns import (
    CorpGroupUrn,
    CorpUserUrn,
    DataFlowUrn,
    DataJobUrn,
    DataPlatformInstanceUrn,
    DataPlatformUrn,
    DatasetUrn,
    TagUrn,
    Urn,
)
from datahub.utilities.urns.error import InvalidUrnError

from datahub_eventlog.config import FABRICS
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import AssetKey, Run

PLATFORM = "dagster"
LONGEST_BYTES = 512
"""Bytes of the url-encoded urn that GMS takes."""

CACHED = 10_000
"""Urns of a kind that are kept: those of a run's assets and ops are needed many times."""

_TEAM = "team:"


class InvalidUrn(ValueError):
    """A text that is no urn of the kind that is needed; its message says why."""


def module_prefix(run: Run, context: Context) -> str:
    """The part M of the urns of flows and jobs.

    A run that no code location launched, as with `dagster job execute -f x.py`, has the name that
    its location would have.
    """
    if context.config.urn_prefix is not None:
        return context.config.urn_prefix
    code = run.module or run.location or run.file
    if context.on_cloud:
        return f"{context.branch}/{code}" if code else context.branch
    return code or context.branch


def flow_urn(run: Run, context: Context) -> str:
    """The dataFlow of the run's job."""
    name = f"{module_prefix(run, context)}/{run.job_name}"
    return _flow_urn(name, context.config.env, context.config.platform_instance)


@lru_cache(maxsize=1000)
def _flow_urn(name: str, env: str, instance: str | None) -> str:
    return DataFlowUrn.create_from_ids(
        orchestrator=PLATFORM, flow_id=name, env=env, platform_instance=instance
    ).urn()


def job_urn(run: Run, handle: str, context: Context) -> str:
    """The dataJob of an op node."""
    flow = flow_urn(run, context)
    return _job_urn(flow, f"{module_prefix(run, context)}/{handle}")


@lru_cache(maxsize=CACHED)
def _job_urn(flow: str, name: str) -> str:
    return DataJobUrn.create_from_ids(data_flow_urn=flow, job_id=name).urn()


def run_urn(run_id: str, context: Context) -> str:
    """The dataProcessInstance of a run."""
    return instance_urn(run_id, context)


def backfill_urn(backfill_id: str, context: Context) -> str:
    """The dataProcessInstance of a backfill, which its runs belong to."""
    return instance_urn(f"backfill:{backfill_id}", context)


def step_id(run: Run, step: str, context: Context) -> str:
    """The id, and name, of a step's run: `step` is its handle, or of a mapped step its key."""
    return f"{run.run_id}.{module_prefix(run, context)}/{step}"


def step_urn(run: Run, step: str, context: Context) -> str:
    """The dataProcessInstance of a step's run."""
    return instance_urn(step_id(run, step, context), context)


def instance_urn(identity: str, context: Context) -> str:
    """The dataProcessInstance of that id."""
    bag = {"cluster": context.config.env, "orchestrator": PLATFORM, "id": identity}
    return f"urn:li:dataProcessInstance:{guid(bag)}"


def asset_urn(key: AssetKey, context: Context) -> str:
    """The dataset that stands for an asset."""
    return dataset_urn(PLATFORM, ".".join(key), context.config.env)


@lru_cache(maxsize=CACHED)
def dataset_urn(platform: str, name: str, env: str) -> str:
    """A dataset's urn from its parts as they are.

    Raises `InvalidUrn` if they make none.
    """
    try:
        return _checked(DatasetUrn(platform=platform, name=name, env=env)).urn()
    except InvalidUrnError as error:
        raise InvalidUrn(str(error)) from None


def platform_dataset_urn(
    platform: str, name: str, context: Context, *, env: str | None = None
) -> str:
    """The urn that DataHub's own source gives a table of that platform.

    Raises `InvalidUrn` if the parts make none.
    """
    instance = context.config.platform_instance_map.get(platform)
    full = f"{instance}.{name}" if instance else name
    if context.config.convert_urns_to_lowercase:
        full = full.lower()
    return dataset_urn(platform, full, env or context.config.env)


def checked_dataset_urn(text: object) -> str:
    """The canonical form of a dataset's urn that somebody wrote.

    Raises `InvalidUrn` if it is none, is too long, or names an environment that DataHub lacks.
    """
    if not isinstance(text, str):
        raise InvalidUrn(f"{text!r} is not a dataset urn")
    try:
        return _checked(DatasetUrn.from_string(text.strip())).urn()
    except InvalidUrnError as error:
        raise InvalidUrn(f"{text!r} is not a dataset urn: {error}") from None


def is_too_long(urn: str) -> bool:
    """Whether GMS would refuse the urn for its length."""
    at_most = 3 if urn.isascii() else 12  # encoded bytes a character
    is_long = len(urn) * at_most > LONGEST_BYTES
    return is_long and len(quote(urn, safe="", errors="replace")) > LONGEST_BYTES


def platform_of(urn: str) -> str:
    """The name of a dataset's platform, such as `snowflake`."""
    return DataPlatformUrn.from_string(DatasetUrn.from_string(urn).platform).platform_name


def platform_urn(platform: str = PLATFORM) -> str:
    """The urn of a data platform."""
    return DataPlatformUrn(platform).urn()


def platform_instance_urn(instance: str, platform: str = PLATFORM) -> str:
    """The urn of an instance of a data platform."""
    return DataPlatformInstanceUrn(platform_urn(platform), instance).urn()


def tag_urn(name: str) -> str:
    """The urn of a tag.

    Raises `InvalidUrn` if the name makes none.
    """
    return _named(TagUrn, name)


def owner_urn(owner: str) -> str:
    """The user or, for Dagster's `team:<name>`, the group.

    Raises `InvalidUrn` if the name makes none.
    """
    if owner.startswith(_TEAM):
        return _named(CorpGroupUrn, owner[len(_TEAM) :])
    return _named(CorpUserUrn, owner)


def entity_type(urn: str) -> str:
    """The type of the entity that a urn names, such as `dataset`."""
    return urn.split(":", 3)[2]


def guid(bag: Mapping[str, str | None]) -> str:
    """DataHub's guid of some parts, those that are None left out (`datahub_guid`)."""
    present = {key: value for key, value in bag.items() if value is not None}
    text = json.dumps(present, separators=(",", ":"), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _named(kind: Callable[[str], Urn], name: str) -> str:
    try:
        urn = kind(name.strip()).urn()
    except InvalidUrnError as error:
        raise InvalidUrn(f"{name!r}: {error}") from None
    if is_too_long(urn):
        raise InvalidUrn(f"{urn} is longer than the {LONGEST_BYTES} bytes that DataHub takes")
    return urn


def _checked(urn: DatasetUrn) -> DatasetUrn:
    if urn.env not in FABRICS:
        raise InvalidUrn(f"{urn} is not a dataset urn: DataHub has no environment {urn.env!r}")
    if is_too_long(urn.urn()):
        raise InvalidUrn(f"{urn} is longer than the {LONGEST_BYTES} bytes that DataHub takes")
    Urn.from_string(urn.platform)
    return urn
