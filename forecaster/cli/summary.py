"""What a run says at its end, from its report."""

from forecaster.cli.output import Output
from forecaster.errors import WriteRefusedError
from forecaster.run.report import BucketsReport, RatesReport, Report, RunReport


def summarise(report: RunReport, output: Output) -> None:
    """What a run did: a table, and a line for grep."""
    output.finish(
        {
            ("tracks looked at" if report.replace else "tracks pending"): f"{report.pending:,}",
            "forecast": f"{report.forecast:,}",
            "rows written": "0 (dry run)" if report.dry_run else f"{report.rows:,}",
            **_outcome(report),
            "tracks per second": f"{report.pending / report.seconds:,.0f}",
        },
        seconds=report.seconds,
        forecast=report.forecast,
        skipped=len(report.skipped),
        rows=report.rows,
    )


def summarise_buckets(report: BucketsReport, output: Output) -> None:
    """What became of the buckets: a table, and a line for grep."""
    parts = {"there already": report.left_alone, "failed": len(report.failed)}
    told = ", ".join(f"{number:,} {what}" for what, number in parts.items() if number)
    output.finish(
        {
            "buckets": f"{report.buckets:,}" + (f" ({told})" if told else ""),
            "tracks": f"{report.pending:,}",
            "forecast": f"{report.forecast:,}",
            "rows in the sink": "0 (dry run)" if report.dry_run else f"{report.rows:,}",
            **_outcome(report),
            "tracks per second": f"{report.pending / report.seconds:,.0f}",
        },
        seconds=report.seconds,
        buckets=report.buckets,
        failed=len(report.failed),
        forecast=report.forecast,
        skipped=len(report.skipped),
        rows=report.rows,
    )


def summarise_check(report: BucketsReport, output: Output) -> None:
    """Which buckets are whole: a table, and a line for grep."""
    output.finish(
        {
            "buckets": f"{report.buckets:,}",
            "whole": f"{report.left_alone:,}",
            "missing or wrong": f"{len(report.failed):,}",
            "tracks": f"{report.pending:,}",
            "forecast": f"{report.forecast:,}",
            "rows": f"{report.rows:,}",
        },
        buckets=report.buckets,
        whole=report.left_alone,
        bad=len(report.failed),
        rows=report.rows,
    )


def summarise_rates(report: RatesReport, output: Output) -> None:
    """What became of the artists: a table, and a line for grep."""
    output.finish(
        {
            ("artists looked at" if report.replace else "artists pending"): f"{report.pending:,}",
            "rated": f"{report.rated:,}" + (" (dry run)" if report.dry_run else ""),
            **_outcome(report),
        },
        seconds=report.seconds,
        rated=report.rated,
        skipped=len(report.skipped),
    )


def fail_if_refused(report: Report, what: str, *, holder: str = "the table") -> None:
    """End in failure if some of what was computed cannot be held by what it is written to."""
    if report.refused:
        first, reason = min(report.refused.items())
        number = len(report.refused)
        raise WriteRefusedError(
            f"{holder} cannot hold the {what} of {number} {report.UNIT}, the first is {first} ({reason})"
            + ("" if report.dry_run else f"; those of the other {report.UNIT} are stored"),
            hint="a wider column type helps, if the values are right; --report lists them all",
        )


def _outcome(report: Report) -> dict[str, str]:
    """What every run has to say."""
    stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in report.stages.items())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.skipped_by_reason.items())
    return {
        "skipped": f"{len(report.skipped):,}" + (f" ({reasons})" if reasons else ""),
        **({"taken by another": f"{len(report.taken):,}"} if report.taken else {}),
        **({"refused": f"{len(report.refused):,}"} if report.refused else {}),
        "daily rows left out": f"{report.unusable_rows:,} unusable, {report.duplicate_rows:,} duplicate",
        "seconds": f"{report.seconds:.2f} ({stages})",
    }
