"""`datahub-eventlog preview`: a run as a page."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from datahub_eventlog.errors import DataHubEventLogError
from datahub_eventlog.operations import Operations
from datahub_eventlog.preview import graph_of, page

EXAMPLES = """
\b
Examples:
  datahub-eventlog preview 5f0f5e1c-1111-4222-8333-0123456789ab
  datahub-eventlog preview 5f0f5e1c-1111-4222-8333-0123456789ab -o lineage.html
  datahub-eventlog preview 5f0f5e1c-1111-4222-8333-0123456789ab -o - > lineage.html
"""

STDOUT = Path("-")


@click.command(epilog=EXAMPLES)
@click.argument("run_id")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Where the page goes; a file that is there is replaced, - is the standard output."
    "  [default: lineage-<first 8 characters of the run's id>.html]",
)
def preview(run_id: str, output: Path | None) -> None:
    """Draw what would be sent of a run; nothing is.

    The page holds all that it needs: it opens in a browser, offline, and can be passed on.
    """
    with Operations.on_home() as operations:
        graph = graph_of(operations.preview(run_id))
    text = page(graph).encode()
    file = output or Path(f"lineage-{run_id[:8]}.html")
    if file == STDOUT:
        sys.stdout.buffer.write(text)
        return
    _write(file, text)
    click.echo(f"{file}: {len(graph.nodes)} nodes, {len(graph.edges)} lines. Open it in a browser.")


def _write(file: Path, text: bytes) -> None:
    try:
        file.write_bytes(text)
    except OSError as error:
        raise DataHubEventLogError(f"{file} can't be written: {error.strerror}") from error
