"""Which runs are left out on purpose; the ledger counts them as filtered."""

from __future__ import annotations

from collections.abc import Iterator

from datahub_eventlog.config import Config
from datahub_eventlog.values import AssetKey, Run, RunLog, Step

IGNORE_TAG = "datahub/ignore"


def is_wanted(run: Run, config: Config) -> bool:
    """Whether neither the run's own tag nor the name of its job leaves it out."""
    ignored = run.tags.get(IGNORE_TAG, "").lower() == "true"
    return not ignored and config.job_pattern.allows(run.job_name)


def has_wanted_steps(log: RunLog, config: Config) -> bool:
    """Whether the run does more than to work on assets that `asset_pattern` leaves out."""
    return not log.steps or any(_is_wanted_step(step, config) for step in log.steps)


def _is_wanted_step(step: Step, config: Config) -> bool:
    keys = list(_assets_of(step))
    return not keys or any(config.asset_pattern.allows("/".join(key)) for key in keys)


def _assets_of(step: Step) -> Iterator[AssetKey]:
    for output in step.outputs:
        if output.asset_key is not None:
            yield output.asset_key
        elif output.check is not None:
            yield output.check.asset_key
