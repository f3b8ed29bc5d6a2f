"""Facts that only definitions hold, read from those that this process has loaded anyway.

A run's worker stores its RUN_START synchronously below the frames that hold the plan's context.
From there the job's definition is reached without loading any code: loading it would run the
user's modules once more. The facts go as compact JSON into the ledger, once per content.
"""

from __future__ import annotations

from datahub_eventlog.definitions.facts import facts_of, read
from datahub_eventlog.definitions.loaded import LoadedJob, loaded_job
from datahub_eventlog.definitions.packing import decode, encode

__all__ = ["LoadedJob", "decode", "loaded_job", "pack", "read"]


def pack(job: LoadedJob) -> tuple[str, bytes]:
    """Read the facts of a job and encode them: the hash of their content, and compressed JSON.

    Does both at once: of thousands of assets, only one is in memory at a time.
    """
    return encode(*facts_of(job))
