"""The definitions that this process has loaded, of the run that it executes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dagster as dg

from datahub_eventlog.dagster_internals import cached_job, cached_repository, plan_context


@dataclass(frozen=True)
class LoadedJob:
    """The definition of a job that is being executed in this process."""

    job: dg.JobDefinition
    repository: dg.RepositoryDefinition | None = None
    """None for jobs that are executed in the process that made them."""


def loaded_job(run_id: str) -> LoadedJob | None:
    """The job of the run that the calling thread executes, if it is loaded; loads no code."""
    context = plan_context(run_id)
    return None if context is None else loaded(context.job)


def loaded(job: Any) -> LoadedJob | None:
    """The definition of a plan context's job."""
    definition = cached_job(job)
    return None if definition is None else LoadedJob(definition, cached_repository(job))
