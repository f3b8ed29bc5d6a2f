"""Schedules of every minute that start nothing: what their ticks take is the daemon's own."""

import dagster as dg

SCHEDULES = 20


@dg.op
def nothing() -> None:
    pass


@dg.job
def never() -> None:
    nothing()


def _schedule(number: int) -> dg.ScheduleDefinition:
    @dg.schedule(
        job=never,
        cron_schedule="* * * * *",
        name=f"every_minute_{number:02}",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def skipped() -> dg.SkipReason:
        return dg.SkipReason("only its tick is of interest")

    return skipped


defs = dg.Definitions(jobs=[never], schedules=[_schedule(number) for number in range(SCHEDULES)])
