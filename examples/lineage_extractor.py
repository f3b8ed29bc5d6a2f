"""An extractor: your own code says what the steps of a run read and wrote.

    export PYTHONPATH=examples
    export DATAHUB_EVENTLOG_ASSET_LINEAGE_EXTRACTOR=lineage_extractor:extract
    dagster asset materialize -f examples/lineage_extractor.py --select '*'

(Set DAGSTER_HOME first, as examples/dagster.yaml says.) In dagster.yaml the option is
`asset_lineage_extractor: lineage_extractor:extract`. It is called once for each run that has
ended, where delivery happens: in the daemon or a worker. What it returns is added to what is
known otherwise; if it fails, `status` says so and the rest of the run is delivered without it.
"""

from collections.abc import Mapping

import dagster as dg
from datahub.ingestion.graph.client import DataHubGraph
from datahub.metadata.urns import DatasetUrn

from datahub_eventlog import DagsterGenerator, DatasetLineage


@dg.asset
def invoices() -> dg.MaterializeResult[None]:
    # This team notes the tables that it reads in metadata of its own.
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
        said = log.asset_materialization
        if said is None or log.step_key is None or "tables read" not in said.metadata:
            continue
        tables = str(said.metadata["tables read"].value).split(", ")
        lineage[log.step_key] = DatasetLineage(
            inputs={DatasetUrn("mysql", each, "PROD") for each in tables},
            outputs={dagster_generator.dataset_urn_from_asset(said.asset_key.path)},
        )
    return lineage
