"""Links into Dagster's web interface, as its own router reads them.

None without `dagster_url`. On Dagster+ the deployment's name belongs in the path; it is added
unless the option already ends with it.
"""

from __future__ import annotations

from urllib.parse import quote

from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import AssetKey, Run

ASSET_JOB = "__ASSET_JOB"
"""The hidden job of a code location's assets."""
EPHEMERAL_JOB = "__ephemeral_asset_job__"
"""The job that `materialize()` makes: no code location has it."""

_ONLY_REPOSITORY = "__repository__"


def run_link(run_id: str, context: Context) -> str | None:
    """The page of a run."""
    return _link(context, "runs", run_id)


def backfill_link(backfill_id: str, context: Context) -> str | None:
    """The page of a backfill."""
    return _link(context, "runs", "b", backfill_id)


def asset_link(key: AssetKey, context: Context) -> str | None:
    """The page of an asset."""
    return _link(context, "assets", *key)


def job_link(run: Run, context: Context) -> str | None:
    """The page of the run's job; of a hidden one, the list of the location's assets."""
    if run.job_name == EPHEMERAL_JOB:
        return None
    if run.job_name.startswith(ASSET_JOB):
        return _location_link(run, context, "assets") or _link(context, "assets")
    link = _location_link(run, context, "jobs", run.job_name)
    return link or _link(context, "guess", run.job_name)


def op_link(run: Run, handle: str, context: Context) -> str | None:
    """The job's page with an op selected."""
    job = job_link(run, context)
    if job is None or run.job_name.startswith(ASSET_JOB):
        return job
    return "/".join((job, *map(_quoted, handle.split("."))))


def _location_link(run: Run, context: Context, *parts: str) -> str | None:
    base = _base(context)
    if base is None or run.location is None:
        return None
    location = _quoted(run.location)
    if run.repository and run.repository != _ONLY_REPOSITORY:
        location = f"{run.repository}@{location}"
    return "/".join((base, "locations", location, *map(_quoted, parts)))


def _link(context: Context, *parts: str) -> str | None:
    base = _base(context)
    return None if base is None else "/".join((base, *map(_quoted, parts)))


def _base(context: Context) -> str | None:
    url = context.config.dagster_url
    if url is None or not context.on_cloud or url.endswith(f"/{context.branch}"):
        return url
    return f"{url}/{_quoted(context.branch)}"


def _quoted(part: str) -> str:
    return quote(part, safe="")
