"""A converter: your naming convention determines the table of an asset.

    export PYTHONPATH=examples
    export DATAHUB_EVENTLOG_ASSET_KEYS_TO_DATASET_URN_CONVERTER=urn_converter:table_of
    dagster asset materialize -f examples/urn_converter.py --select '*'

(Set DAGSTER_HOME first, see examples/dagster.yaml.) In dagster.yaml the option is
`asset_keys_to_dataset_urn_converter: urn_converter:table_of`.
"""

from collections.abc import Sequence

import dagster as dg
from datahub.metadata.urns import DatasetUrn


@dg.asset(key=["warehouse", "sales", "orders"])
def orders() -> None: ...


@dg.asset(key=["scratch", "numbers"])
def numbers() -> None: ...


def table_of(key: Sequence[str]) -> DatasetUrn | None:
    """`warehouse/<schema>/<table>` is a table in BigQuery; other assets have no table."""
    if key[0] != "warehouse":
        return None
    return DatasetUrn(platform="bigquery", name=".".join(["acme-dwh", *key[1:]]), env="PROD")
