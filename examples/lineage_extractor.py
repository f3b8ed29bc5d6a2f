"""An extractor: your own code returns what the steps of a run read and wrote.

    export PYTHONPATH=examples
    export DATAHUB_EVENTLOG_ASSET_LINEAGE_EXTRACTOR=lineage_extractor:extract
    dagster asset materialize -f examples/lineage_extractor.py --select '*'

(Set DAGSTER_HOME first, see examples/dagster.yaml.) In dagster.yaml the option is
`asset_lineage_extractor: lineage_extractor:extract`. It is called once for each ended run, where
delivery happens: in the daemon or a worker. Its lineage is added to that from other sources. If it
fails, the rest of the run is delivered, and `status` has the error.
"""

from collections.abc import Mapping

import dagster as dg
from datahub.ingestion.graph.client import DataHubGraph
from datahub.metadata.urns import DatasetUrn

from datahub_eventlog import DagsterGenerator, DatasetLineage


@dg.asset
def invoices() -> dg.MaterializeResult[None]:
    # This team writes the tables that it reads into metadata of its own.
    return dg.MaterializeResult(metadata={"tables read": "billing.invoices, billing.customers"})


def extract(
    context: dg.RunStatusSensorContext,
    dagster_generator: DagsterGenerator,
    graph: DataHubGraph | None,  # None where the target is Kafka or files
) -> Mapping[str, DatasetLineage]:
    """The datasets that each step read and wrote, by the step's key."""
    lineage: dict[str, DatasetLineage] = {}
    kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION}
    for log in context.instance.all_logs(context.dagster_run.run_id, kinds):
        asset = log.asset_materialization
        if asset is None or log.step_key is None or "tables read" not in asset.metadata:
            continue
        tables = str(asset.metadata["tables read"].value).split(", ")
        lineage[log.step_key] = DatasetLineage(
            inputs={DatasetUrn("mysql", table, "PROD") for table in tables},
            outputs={dagster_generator.dataset_urn_from_asset(asset.asset_key.path)},
        )
    return lineage
