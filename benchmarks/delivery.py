"""What delivery costs and manages, beside the sensor plugin's own code.

    python -m benchmarks.delivery [--only TEXT ...] [--assets 200] [--runs 300] [--quick]

Prints one table: counts, ratios and times, ours and the plugin's in the same run. The event log is
a Postgres of its own. DataHub is a process that answers after a latency and counts; it judges
nothing, as a strict receiver would be slower than what is measured. `--only` takes some of: run,
ended, backlog, large, polling, crowd, catalog, verify, daemon. A long backlog: `--only backlog
--runs 5000`.
The last part takes a quarter of an hour, since schedules tick once a minute.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

os.environ.setdefault("DATAHUB_TELEMETRY_ENABLED", "false")

from rich.console import Console

from benchmarks.backlog import Backlog, Ended, Large
from benchmarks.bloat import Bloat
from benchmarks.catalogue import Catalogue
from benchmarks.contention import Contention
from benchmarks.daemon import Daemon
from benchmarks.environment import Environment, load, make_environment
from benchmarks.one_run import OneRun
from benchmarks.polling import Polling
from benchmarks.rows import Row, shown
from benchmarks.verification import Verified


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    assets: int = 200
    latencies: tuple[float, ...] = (0.0, 0.01, 0.04)
    """Seconds, the first without."""
    plugin_latencies: tuple[float, ...] = (0.0, 0.04)
    """The plugin's requests go one after the other: it takes minutes with latency."""
    repeats: int = 3
    ended: int = 20
    runs: int = 300
    events: int = 10_000
    live: int = 200
    period: float = 15.0
    size: int = 100_000
    catalog: int = 5000
    verified: int = 2000
    dispatchers: int = 50
    touches: int = 20_000
    minutes: int = 2
    turns: int = 2
    has_third: bool = True


QUICK = Sizes(
    assets=12,
    latencies=(0.0, 0.01),
    plugin_latencies=(0.0,),
    repeats=1,
    ended=2,
    runs=10,
    events=100,
    live=5,
    period=1.0,
    size=5000,
    catalog=150,
    verified=30,
    dispatchers=5,
    touches=400,
    minutes=1,
    turns=1,
    has_third=False,
)

Part = Callable[[Environment, Sizes], Iterator[Row]]


def _one_run(environment: Environment, sizes: Sizes) -> Iterator[Row]:
    run = OneRun(environment, sizes.assets, sizes.latencies, sizes.repeats, sizes.plugin_latencies)
    run.execute()
    yield from run.rows()


def _ended(environment: Environment, sizes: Sizes) -> Iterator[Row]:
    yield Ended(environment, sizes.ended).row()


def _backlog(environment: Environment, sizes: Sizes) -> Iterator[Row]:
    yield from Backlog(environment, sizes.runs).rows()


def _large(environment: Environment, sizes: Sizes) -> Iterator[Row]:
    yield from Large(environment, sizes.events).rows()


def _polling(environment: Environment, sizes: Sizes) -> Iterator[Row]:
    yield from Polling(environment, sizes.live, sizes.period).rows()


def _crowd(environment: Environment, sizes: Sizes) -> Iterator[Row]:
    yield from Contention(environment, sizes.size, sizes.dispatchers, sizes.period).rows()
    yield from Bloat(environment, sizes.touches).rows()


def _catalog(environment: Environment, sizes: Sizes) -> Iterator[Row]:
    yield from Catalogue(environment, sizes.catalog, sizes.repeats).rows()


def _verify(environment: Environment, sizes: Sizes) -> Iterator[Row]:
    yield from Verified(environment, sizes.verified).rows()


def _daemon(environment: Environment, sizes: Sizes) -> Iterator[Row]:
    yield from Daemon(environment, sizes.minutes, sizes.turns, sizes.has_third).rows()


PARTS: Mapping[str, Part] = {
    "run": _one_run,
    "ended": _ended,
    "backlog": _backlog,
    "large": _large,
    "polling": _polling,
    "crowd": _crowd,
    "catalog": _catalog,
    "verify": _verify,
    "daemon": _daemon,
}


def _rows(only: list[str], sizes: Sizes) -> Iterator[Row]:
    """Run each part in an environment of its own."""
    for name in only:
        with tempfile.TemporaryDirectory() as folder, make_environment(Path(folder)) as environment:
            yield from PARTS[name](environment, sizes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="a smoke test: small, and no truth")
    parser.add_argument("--json", type=Path, help="a file for the rows")
    for field in fields(Sizes):
        if field.type == "int":
            parser.add_argument(f"--{field.name}", type=int)
    parser.add_argument("--latencies", type=float, nargs="+", help="seconds; the first is 0")
    parser.add_argument("--plugin-latencies", type=float, nargs="*", help="those of the plugin")
    return parser.parse_args()


def _sizes(options: argparse.Namespace) -> Sizes:
    sizes = asdict(QUICK if options.quick else Sizes())
    given = {name: getattr(options, name, None) for name in sizes}
    chosen = {name: value for name, value in given.items() if value is not None}
    return Sizes(**{**sizes, **chosen})


def main() -> None:
    """Measure, and print the table."""
    options = _options()
    logging.disable(logging.INFO)
    rows: list[Row] = []

    def on_row(row: Row) -> None:
        rows.append(row)
        print(f"{row.what}: {row.ours}", file=sys.stderr, flush=True)

    before = load()
    table = shown(_rows(options.only, _sizes(options)), on_row)
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    print(f"Load of {os.cpu_count()} processors before and after: {before}; {load()}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
