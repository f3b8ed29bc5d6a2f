"""The block `datahub:` of dagster.yaml: its options, and how they are read.

`options.py` declares every option; a value comes from dagster.yaml, else from the environment
variable `DATAHUB_EVENTLOG_<OPTION>`, else it is the default (`reading.py`).
"""

from __future__ import annotations

from datahub_eventlog.config.environment import PREFIX
from datahub_eventlog.config.masking import inline_secrets, masked
from datahub_eventlog.config.options import (
    FABRICS,
    CatalogOptions,
    Config,
    HealthOptions,
    IncidentOptions,
    Option,
    Redaction,
    VerifyOptions,
    obstacle_in,
    options,
)
from datahub_eventlog.config.patterns import Pattern, fits
from datahub_eventlog.config.reading import Block, Reading, read, readable_target
from datahub_eventlog.config.targets import FileTarget, KafkaTarget, RestTarget, Target

__all__ = [
    "FABRICS",
    "PREFIX",
    "Block",
    "CatalogOptions",
    "Config",
    "FileTarget",
    "HealthOptions",
    "IncidentOptions",
    "KafkaTarget",
    "Option",
    "Pattern",
    "Reading",
    "Redaction",
    "RestTarget",
    "Target",
    "VerifyOptions",
    "fits",
    "inline_secrets",
    "masked",
    "obstacle_in",
    "options",
    "read",
    "readable_target",
]
