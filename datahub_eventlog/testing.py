"""Public helpers for users' own tests: what a run sends to DataHub, without a DataHub.

```python
def test_orders_belong_to_the_data_team(tmp_path):
    with capturing(tmp_path) as instance:
        run = dagster.materialize([orders], instance=instance)
        sink = delivered(instance, run.run_id)
    assert "urn:li:corpGroup:data" in sink.bodies(ORDERS)["ownership"]
```
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from dagster import DagsterInstance

from datahub_eventlog.operations import Operations
from datahub_eventlog.sinks.memory import MemorySink
from datahub_eventlog.values import Problem

__all__ = ["MemorySink", "capturing", "delivered"]


@contextmanager
def capturing(directory: Path, **options: Any) -> Iterator[DagsterInstance]:
    """An instance in that directory whose runs are captured and not delivered.

    `options` are those of the block `datahub:` in dagster.yaml.
    """
    storage = {
        "module": "datahub_eventlog",
        "class": "DataHubEventLogStorage",
        "config": {"datahub": {**options, "dispatch": "off"}},
    }
    written = {"event_log_storage": storage, "telemetry": {"enabled": False}}
    (directory / "dagster.yaml").write_text(yaml.safe_dump(written))
    with DagsterInstance.from_config(str(directory)) as instance:
        yield instance


def delivered(instance: DagsterInstance, run_id: str) -> MemorySink:
    """A sink with everything that the run would send to DataHub, and its problems.

    Raises `ConfigurationError` if the options are wrong.
    """
    sink = MemorySink()
    for item in Operations(instance).preview(run_id):
        if isinstance(item, Problem):
            sink.problems.append(item)
        else:
            sink.emit([item])
    return sink
