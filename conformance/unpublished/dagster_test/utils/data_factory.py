from typing import Any

from dagster import DagsterRun
from dagster._core.utils import make_new_run_id


def dagster_run(**fields: Any) -> DagsterRun:
    """A run of some job, unless the fields say which."""
    return DagsterRun(**{"run_id": make_new_run_id(), "job_name": "some_job", **fields})
