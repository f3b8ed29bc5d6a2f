"""What the wrapper costs the processes that it sits in, beside plain Dagster and a rival.

    python -m benchmarks.overhead [--pairs 30] [--job-pairs 5] [--only TEXT ...] [--quick]

Prints one table. A ratio is the median over pairs (the same work with and without the wrapper:
events fifty here and fifty there in turn, jobs side by side), with its 95 % confidence interval:
1.02 is two per cent more. The receiver that stands for DataHub, the dispatcher and Postgres are
processes of their own.
"""

from __future__ import annotations

import argparse
import compileall
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deployment import Deployment, eventually, postgres_yaml, sqlite_yaml
from postgres import PostgresServer
from receiver import Remote
from rich.console import Console
from rich.table import Table

from benchmarks import in_process, openlineage, whole_jobs
from benchmarks.pairs import Cost, Pair, cpu, wall
from datahub_eventlog.ledger_location import ledger_of

HERE = Path(__file__).parent
STORING = "store_event"
JOB = "job, a process a step"
DATABASES = ("SQLite", "Postgres")
STATES = ("up", "slow", "refusing", "hanging", "no dispatcher")
"""Of DataHub, with a dispatcher alive elsewhere, except for the last."""
JOB_STATES = STATES[:4]
SLOW = 0.5
"""Seconds that a slow DataHub takes to answer."""
GOAL = 1.05
PACKAGES = ("datahub_eventlog", "dagster", "dagster_shared", "dagster_postgres")
"""What the processes import of ours and of Dagster's; Dagster 1.10.0 has no dagster_shared."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    where: str
    state: str
    figures: str
    wall: str = ""
    cpu: str = ""
    goal: str = ""

    @property
    def name(self) -> str:
        return ", ".join(part for part in (self.what, self.where, self.state) if part)


@dataclass(frozen=True)
class Options:
    pairs: int
    job_pairs: int
    events: int
    steps: int
    rival: bool
    venv: Path
    only: list[str]

    def wants(self, *names: str) -> bool:
        name = ", ".join(part for part in names if part).lower()
        return not self.only or any(text.lower() in name for text in self.only)


def _rival_kinds(database: str, state: str) -> Iterator[str]:
    yield f"{STORING}, dagster-openlineage"
    if database == "SQLite" and state == "up":
        yield f"{JOB}, dagster-openlineage"


class Bench:
    """What is measured, where, and with what around it."""

    def __init__(self, options: Options, folder: Path, stack: ExitStack) -> None:
        self._options = options
        self._folder = folder
        self._stack = stack
        self._server: PostgresServer | None = None
        self._number = 0

    def rows(self) -> Iterator[Row]:
        """All of them, as they come."""
        for database in DATABASES:
            yield from self._storing(database)
            yield from self._jobs(database)
            yield from self._rivals(database)
        for what, measure in in_process.MEASUREMENTS.items():
            if self._options.wants(what):
                yield _absolute(what, measure(self._options.pairs))

    def _storing(self, database: str) -> Iterator[Row]:
        """With one receiver and one dispatcher, which go through all states."""
        what = f"{STORING}, ours"
        wanted = [name for name in STATES if self._options.wants(what, database, name)]
        if not wanted:
            return
        with self._home(database, None) as plain, self._delivering(database) as (ours, receiver):
            dispatcher = _dispatcher(ours)
            for state in wanted:
                receiver.become(state)
                if state == "no dispatcher":
                    dispatcher.terminate()
                    dispatcher.wait()
                drained = ["--drained"] if state in {"up", "slow"} else []
                pairs = self._stored(Path(sys.executable), plain, ours, *drained)
                yield _ratio(what, database, state, self._options.events, pairs, goal=GOAL)

    def _jobs(self, database: str) -> Iterator[Row]:
        """Each state with a home, a receiver and a dispatcher of its own."""
        what = f"{JOB}, ours"
        for state in JOB_STATES:
            if not self._options.wants(what, database, state):
                continue
            with (
                self._home(database, None) as plain,
                self._delivering(database) as (ours, receiver),
            ):
                receiver.become(state)
                _dispatcher(ours)
                pairs = self._executed(Path(sys.executable), plain, ours)
                yield _ratio(what, database, state, self._options.steps, pairs, goal=GOAL)

    def _rivals(self, database: str) -> Iterator[Row]:
        states: tuple[openlineage.Backend, ...] = ("up", "refusing", "hanging")
        for state in states:
            for what in _rival_kinds(database, state):
                if self._options.wants(what, database, state):
                    yield self._rival_row(what, database, state)

    def _rival_row(self, what: str, database: str, state: openlineage.Backend) -> Row:
        python = self._rival()
        if isinstance(python, str):
            return Row(what, database, state, python)
        # Each event that it can't send takes it seconds.
        is_slow = state != "up"
        events = min(30, self._options.events) if is_slow else self._options.events
        with self._beside_rival(database, state) as (plain, other):
            if what.startswith(JOB):
                pairs = self._executed(python, plain, other)
                return _ratio(what, database, state, self._options.steps, pairs)
            count = min(3, self._options.pairs) if is_slow else self._options.pairs
            pairs = self._stored(python, plain, other, events=events, pairs=count)
            return _ratio(what, database, state, events, pairs)

    @contextmanager
    def _delivering(self, database: str) -> Iterator[tuple[Deployment, _Receiver]]:
        """A home with us, and the receiver that it delivers to."""
        with _receiver() as receiver:
            # Where no dispatcher is alive, a job would deliver itself when it has ended.
            block = {"datahub_client_config": {"server": receiver.url}, "dispatch": "worker"}
            with self._home(database, block) as ours:
                yield ours, receiver

    @contextmanager
    def _beside_rival(
        self, database: str, state: openlineage.Backend
    ) -> Iterator[tuple[Deployment, Deployment]]:
        with (
            openlineage.receiving(state) as url,
            self._home(database, None) as plain,
            self._home(database, None) as other,
        ):
            other.write({**openlineage.storage(_backend(other)), **_others(other)})
            variables = {openlineage.URL: url}
            plain.environment = other.environment = variables
            yield plain, other

    @contextmanager
    def _home(self, database: str, block: Mapping[str, Any] | None) -> Iterator[Deployment]:
        """A home with a database of its own."""
        self._number += 1
        home = self._folder / f"home-{self._number}"
        if database == "SQLite":
            deployment = Deployment(home, {} if block is None else sqlite_yaml(block))
            yield deployment
        else:
            with self._postgres().database() as url:
                plain = {"storage": {"postgres": {"postgres_url": url}}}
                deployment = Deployment(home, plain if block is None else postgres_yaml(url, block))
                yield deployment
                deployment.stop()
        deployment.stop()

    def _postgres(self) -> PostgresServer:
        if self._server is None:
            self._server = self._stack.enter_context(PostgresServer())
        return self._server

    def _rival(self) -> Path | str:
        """Its interpreter, or why there is none."""
        if not self._options.rival:
            return "skipped: not asked for"
        try:
            return openlineage.installed(self._options.venv)
        except openlineage.NotInstalled as error:
            return f"skipped: {error}"

    def _stored(
        self,
        python: Path,
        plain: Deployment,
        other: Deployment,
        *arguments: str,
        events: int | None = None,
        pairs: int | None = None,
    ) -> list[Pair]:
        """The pairs that `storing.py` measures in a process of its own."""
        wanted = [f"--events={events or self._options.events}"]
        wanted += [f"--pairs={pairs or self._options.pairs}", *arguments]
        homes = [str(plain.home), str(other.home)]
        result = subprocess.run(
            [str(python), str(HERE / "storing.py"), *homes, *wanted],
            env=other.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        lines = (json.loads(line) for line in result.stdout.splitlines())
        return [Pair(Cost(**line["plain"]), Cost(**line["other"])) for line in lines]

    def _executed(self, python: Path, plain: Deployment, other: Deployment) -> list[Pair]:
        steps = {"STEPS": str(self._options.steps)}
        environments = [{**home.variables, **steps} for home in (plain, other)]
        return list(whole_jobs.pairs(python, *environments, count=self._options.job_pairs))


class _Receiver:
    """A receiver in a process of its own."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.url = addresses["url"]
        self._remote = Remote(addresses["control"])

    def become(self, state: str) -> None:
        self._remote.accept()
        self._remote.clear()
        if state == "refusing":
            self._remote.refuse()
        elif state == "hanging":
            self._remote.fault("hang")
        elif state == "slow":
            self._remote.fault("slow", seconds=SLOW)


@contextmanager
def _receiver() -> Iterator[_Receiver]:
    command = [sys.executable, str(HERE.parent / "tests" / "receiver.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield _Receiver(json.loads(process.stdout.readline()))
        finally:
            process.terminate()


def _dispatcher(deployment: Deployment) -> subprocess.Popen[bytes]:
    """Alive and ready to deliver; `Deployment.stop` ends it."""
    process = deployment.start("datahub_eventlog.cli", "worker", log="worker.log")
    with deployment.instance() as instance:
        ledger = ledger_of(instance, patience=5)
        eventually(ledger.reports.dispatchers, "the dispatcher is alive")
    return process


def _backend(deployment: Deployment) -> dict[str, Any]:
    """The event log storage that a home has, as one that can be wrapped."""
    postgres = deployment.storage.get("storage", {}).get("postgres")
    if postgres is None:
        return {
            "module": "dagster._core.storage.event_log",
            "class": "SqliteEventLogStorage",
            "config": {"base_dir": str(deployment.home / "history" / "runs")},
        }
    return {"module": "dagster_postgres", "class": "PostgresEventLogStorage", "config": postgres}


def _others(deployment: Deployment) -> dict[str, Any]:
    """The other two storages of that home, which must be named beside the event log's."""
    postgres = deployment.storage.get("storage", {}).get("postgres")
    if postgres is None:
        return {}
    return {
        f"{name}_storage": {
            "module": "dagster_postgres",
            "class": f"Postgres{name.capitalize()}Storage",
            "config": postgres,
        }
        for name in ("run", "schedule")
    }


def _ratio(
    what: str, where: str, state: str, size: int, pairs: list[Pair], *, goal: float | None = None
) -> Row:
    clock, processor = wall(pairs), cpu(pairs)
    figures = f"{len(pairs)} pairs of {size}"
    aim = (
        "" if goal is None else f"≤ {goal}: {_verdict(processor.high <= goal, clock.high <= goal)}"
    )
    return Row(what, where, state, figures, clock.text(), processor.text(), aim)


def _verdict(*are_met: bool) -> str:
    return "met" if all(are_met) else "not met"


def _absolute(what: str, measured: in_process.Measured) -> Row:
    median, unit = measured.median, measured.unit
    aim = ""
    if measured.goal is not None:
        aim = f"≤ {measured.goal:g} {unit}: {_verdict(median.high <= measured.goal)}"
    text = f"{median.text('.2f')} {unit}"
    return Row(what, "", "", f"{measured.count} times", "", text, aim)


def _table(rows: Iterable[Row]) -> Table:
    table = Table(
        "what", "database", "backend", "measured", "wall, ratio [95 %]", "CPU, ratio [95 %]", "goal"
    )
    for row in rows:
        table.add_row(row.what, row.where, row.state, row.figures, row.wall, row.cpu, row.goal)
    return table


def _options() -> Options:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--job-pairs", type=int, default=5)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=[], help="rows whose name has one of these")
    parser.add_argument("--no-rival", action="store_true", help="install nothing")
    parser.add_argument("--rival-venv", type=Path, help="where the rival is kept between two runs")
    parser.add_argument("--quick", action="store_true", help="a few pairs, which say nothing")
    given = parser.parse_args()
    if given.quick:
        given.pairs, given.job_pairs, given.events, given.steps, given.no_rival = 2, 1, 20, 1, True
    return Options(
        pairs=given.pairs,
        job_pairs=given.job_pairs,
        events=given.events,
        steps=given.steps,
        rival=not given.no_rival,
        venv=given.rival_venv or Path(tempfile.gettempdir(), "datahub-eventlog-rival"),
        only=given.only,
    )


def _compile() -> None:
    """As packages are once installed: otherwise each process of a job might do it anew."""
    for spec in filter(None, map(find_spec, PACKAGES)):
        for folder in spec.submodule_search_locations or ():
            compileall.compile_dir(folder, quiet=1)


def main() -> None:
    """Measure, tell each figure as it comes, and print the table."""
    options = _options()
    _compile()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for row in Bench(options, Path(folder), stack).rows():
            print(f"{row.name} = {row.figures} {row.wall} {row.cpu}", file=sys.stderr, flush=True)
            rows.append(row)
    Console(width=220).print(_table(rows))


if __name__ == "__main__":
    main()
