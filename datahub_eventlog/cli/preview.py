"""`datahub-eventlog preview`: a run as a page."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from datahub_eventlog.cli.output import EXAMPLE_RUN, examples
from datahub_eventlog.errors import DataHubEventLogError
from datahub_eventlog.operations import Operations
from datahub_eventlog.preview import graph_of, page

STDOUT = Path("-")


@click.command(
    epilog=examples(
        f"preview {EXAMPLE_RUN}",
        f"preview {EXAMPLE_RUN} -o lineage.html",
        f"preview {EXAMPLE_RUN} -o - > lineage.html",
    )
)
@click.argument("run_id")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Where to write the page; an existing file is replaced, - is standard output."
    "  [default: lineage-<first 8 characters of the run's id>.html]",
)
def preview(run_id: str, output: Path | None) -> None:
    """Draw what would be sent for a run, without sending it.

    The result is one HTML page, which opens in a browser, offline.
    """
    with Operations.on_home() as operations:
        graph = graph_of(operations.preview(run_id))
    text = page(graph).encode()
    file = output or Path(f"lineage-{run_id[:8]}.html")
    if file == STDOUT:
        sys.stdout.buffer.write(text)
        return
    try:
        file.write_bytes(text)
    except OSError as error:
        raise DataHubEventLogError(f"{file} can't be written: {error.strerror}") from error
    click.echo(f"{file}: {len(graph.nodes)} nodes, {len(graph.edges)} edges. Open it in a browser.")
