"""Which runs are left out on purpose; the ledger counts them as filtered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from datahub_eventlog.config import Config
from datahub_eventlog.values import AssetKey, CatalogJob, CatalogPart, Run, RunLog, Step

IGNORE_TAG = "datahub/ignore"


def is_wanted(run: Run, config: Config) -> bool:
    """Whether neither the run's own tag nor the name of its job leaves it out."""
    ignored = run.tags.get(IGNORE_TAG, "").lower() == "true"
    return not ignored and config.job_pattern.allows(run.job_name)


def has_wanted_steps(log: RunLog, config: Config) -> bool:
    """Whether the run does more than to work on assets that `asset_pattern` leaves out."""
    return not log.steps or any(_is_wanted_step(step, config) for step in log.steps)


def wanted_jobs(part: CatalogPart, config: Config) -> CatalogPart:
    """The part without the jobs whose runs would all be left out."""
    jobs = [job for job in part.jobs if _is_wanted_job(job, config)]
    return replace(part, jobs=tuple(jobs))


def _is_wanted_job(job: CatalogJob, config: Config) -> bool:
    run = Run("", job.job.name, "", tags=job.job.tags)
    return is_wanted(run, config) and has_wanted_steps(RunLog(run, job.job, job.steps, ()), config)


def _is_wanted_step(step: Step, config: Config) -> bool:
    keys = list(_assets_of(step))
    return not keys or any(config.asset_pattern.allows("/".join(key)) for key in keys)


def _assets_of(step: Step) -> Iterator[AssetKey]:
    for output in step.outputs:
        if output.asset_key is not None:
            yield output.asset_key
        elif output.check is not None:
            yield output.check.asset_key
