"""Delivery at the end of a run's own process, where no other dispatcher is alive."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from datahub_eventlog import extractor
from datahub_eventlog.config import Config, RestTarget
from datahub_eventlog.dispatcher.assembling import Open, assemble, require_delivery
from datahub_eventlog.dispatcher.dispatcher import Dispatcher
from datahub_eventlog.errors import DataHubEventLogError, Unavailable
from datahub_eventlog.log import logger


def deliver_runs(
    config: Config, open_instance: Open, run_ids: Sequence[str], timeout: timedelta
) -> None:
    """Deliver these runs from the process that executed them, for at most that long.

    What isn't delivered by then stays in the ledger for the next dispatcher. Raises
    `ConfigurationError` if nothing can be delivered from here.
    """
    end = time.monotonic() + timeout.total_seconds()

    def check_time() -> None:
        if time.monotonic() >= end:
            raise Unavailable("exit_timeout is over, and DataHub has not taken everything.")

    hurried = _with_short_timeout(config, timeout)
    require_delivery(hurried)
    deadline = min(timeout, extractor.DEADLINE)
    with open_instance() as opened, assemble(opened, hurried, deadline=deadline) as parts:
        dispatcher = Dispatcher(hurried, parts, on_request=check_time)
        try:
            dispatcher.deliver(run_ids)
        except DataHubEventLogError as error:
            logger.warning("Left for the next dispatcher: %s", error)


def _with_short_timeout(config: Config, timeout: timedelta) -> Config:
    """The configuration with a client that doesn't wait longer than we may."""
    if not isinstance(config.target, RestTarget):
        return config
    seconds = max(1.0, min(config.target.timeout_sec, timeout.total_seconds()))
    return replace(config, target=replace(config.target, timeout_sec=seconds))
