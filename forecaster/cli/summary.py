"""Print the summary of a run from its report."""

from forecaster.cli.output import Output
from forecaster.errors import WriteRefusedError
from forecaster.process.numbers import change, counted, short, short_range
from forecaster.run.plausible import Plausibility
from forecaster.run.report import Report, stale_in_words


def summarise(report: Report, output: Output) -> None:
    """Print what a run on tables did."""
    output.finish(
        {
            ("tracks looked at" if report.replace else "tracks pending"): f"{report.pending:,}",
            "forecast": f"{report.results:,}",
            "rows written": "0 (dry run)" if report.dry_run else f"{report.rows:,}",
            **_total(report),
            **_outcome(report),
            "tracks per second": f"{report.pending / report.seconds:,.0f}",
        },
        seconds=report.seconds,
        forecast=report.results,
        skipped=len(report.skipped),
        rows=report.rows,
    )


def summarise_buckets(report: Report, output: Output) -> None:
    """Print what a run on Parquet files did."""
    parts = {"there already": report.left_alone, "failed": len(report.failed)}
    told = ", ".join(f"{number:,} {what}" for what, number in parts.items() if number)
    output.finish(
        {
            "buckets": f"{report.buckets:,}" + (f" ({told})" if told else ""),
            "tracks": f"{report.pending:,}",
            "forecast": f"{report.results:,}",
            "rows in the sink": "0 (dry run)" if report.dry_run else f"{report.rows:,}",
            **_outcome(report),
            "tracks per second": f"{report.pending / report.seconds:,.0f}",
        },
        seconds=report.seconds,
        buckets=report.buckets,
        failed=len(report.failed),
        forecast=report.results,
        skipped=len(report.skipped),
        rows=report.rows,
    )


def summarise_check(report: Report, output: Output) -> None:
    """Print how many buckets are complete."""
    output.finish(
        {
            "buckets": f"{report.buckets:,}",
            "whole": f"{report.left_alone:,}",
            "missing or wrong": f"{len(report.failed):,}",
            "tracks": f"{report.pending:,}",
            "forecast": f"{report.results:,}",
            "rows": f"{report.rows:,}",
        },
        buckets=report.buckets,
        whole=report.left_alone,
        bad=len(report.failed),
        rows=report.rows,
    )


def summarise_rates(report: Report, output: Output) -> None:
    """Print what a run of the decay rates did."""
    output.finish(
        {
            ("artists looked at" if report.replace else "artists pending"): f"{report.pending:,}",
            "rated": f"{report.results:,}" + (" (dry run)" if report.dry_run else ""),
            **_outcome(report),
        },
        seconds=report.seconds,
        rated=report.results,
        skipped=len(report.skipped),
    )


def fail_if_refused(report: Report, what: str, *, holder: str = "the table") -> None:
    """Raise `WriteRefusedError` if the destination refuses some of the results, or cannot hold them."""
    if report.refused:
        first, reason = min(report.refused.items())
        number, unit = len(report.refused), report.subject.unit
        number_of = counted(number, unit.removesuffix("s"))
        is_stored = report.results and not report.dry_run
        raise WriteRefusedError(
            f"{holder} refuses the {what} of {number_of}, the first is {first} ({reason})"
            + (f"; those of the other {unit} are stored" if is_stored else ""),
            hint="--report lists them all, each with its reason",
        )


def _total(report: Report) -> dict[str, str]:
    """Give the total of all stored forecasts, its range and change; nothing where no history is kept."""
    if report.total is None:
        return {}
    percent = change(report.total, report.total_before)
    against = f", {percent} against the run before" if percent else ""
    total = {f"{report.horizon}-month total": short(report.total) + against}
    if report.total_range is None:
        return total
    calibrated = f"calibration {report.calibration}"
    of = calibrated if report.calibration else "other catalogues: run `calibrate`"
    return total | {"80 % range": f"{short_range(*report.total_range)}, from {of}"}


def fail_if_implausible(report: Report, plausibility: Plausibility) -> None:
    """Raise `ImplausibleError` if a strict check has found something."""
    stored = "the forecasts are stored; " if report.results else ""
    if report.dry_run:
        stored = "nothing is stored, as this is a dry run; "
    plausibility.refuse(
        report.implausible, hint=f"{stored}correct the data, or change --threshold or --strict"
    )


def _model(made: object) -> dict[str, str]:
    """Say what forecasts were made with, if it was not the production model as it is."""
    if not isinstance(made, dict) or "model" not in made:
        return {}
    share = f", {made['weight']:.0%} calibrated" if 0 < made["weight"] < 1 else ""
    return {"model": f"{made['model']}{share}, from {made['level']} days, {made['calibration']}"}


def _outcome(report: Report) -> dict[str, str]:
    """List the rows that the summary of every run has."""
    stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in report.stages.seconds.items())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.skipped_by_reason.items())
    return {
        **_model(report.asked.get("parameters")),
        "skipped": f"{len(report.skipped):,}" + (f" ({reasons})" if reasons else ""),
        **({"stale": stale_in_words(report.stale)} if report.stale and report.stale["tracks"] else {}),
        **({"taken by another": f"{len(report.taken):,}"} if report.taken else {}),
        **({"refused": f"{len(report.refused):,}"} if report.refused else {}),
        "daily rows left out": f"{report.unusable_rows:,} unusable, {report.duplicate_rows:,} duplicate",
        "seconds": f"{report.seconds:.2f} ({stages})",
    }
