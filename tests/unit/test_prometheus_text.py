"""The metrics of a run, as text that Prometheus's own parser reads."""

import re

import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

from forecaster.cli.prometheus import METRICS, OUTCOMES, Ended, Metric, as_text
from forecaster.model.eligibility import REASONS
from forecaster.run.plausible import CHECKS, Finding, Observed, Some
from forecaster.run.report import ARTISTS, Report
from tests.prometheus import samples

LABELS = {"command": "run", "file": "nightly"}


def ended(report: Report, exit_code: int = 0) -> Ended:
    return Ended(report, exit_code, started=1000.25, ended=1010.75, last_success=900.0)


@pytest.fixture
def report() -> Report:
    report = Report(pending=10, results=5, rows=120, unusable_rows=2, duplicate_rows=1)
    report.skipped = pl.DataFrame(
        {
            "cm_track_id": [1, 2, 3],
            "cm_artist_id": [1, 1, 1],
            "reason": ["no_mldr", "no_mldr", "too_young"],
        }
    )
    report.taken, report.refused = [4], {5: "too large"}
    report.warnings = ["one"]
    report.stages.seconds["read"] = 1.5
    return report


def test_the_counts_of_a_run(report: Report) -> None:
    got = samples(as_text(ended(report), LABELS))
    tracks = {label: value for (name, label), value in got.items() if name == "forecaster_run_tracks"}
    assert tracks == {"forecast": 5, "skipped": 3, "taken": 1, "refused": 1}
    skipped = {label: value for (name, label), value in got.items() if name.endswith("_tracks_skipped")}
    assert skipped == dict.fromkeys(REASONS, 0) | {"no_mldr": 2, "too_young": 1}
    assert got["forecaster_run_tracks_pending", ""] == 10
    assert got["forecaster_run_stored_rows", ""] == 120
    assert got["forecaster_run_left_out_rows", "unusable"] == 2
    assert got["forecaster_run_left_out_rows", "duplicate"] == 1
    assert got["forecaster_run_warnings", ""] == 1
    assert got["forecaster_run_stage_seconds", "read"] == 1.5
    assert got["forecaster_run_stage_seconds", "write"] == 0
    assert not [name for name, _ in got if "artists" in name or "buckets" in name]


def test_times(report: Report) -> None:
    got = samples(as_text(ended(report), LABELS))
    assert got["forecaster_run_start_timestamp_seconds", ""] == 1000.25
    assert got["forecaster_run_end_timestamp_seconds", ""] == 1010.75
    assert got["forecaster_run_duration_seconds", ""] == 10.5
    assert got["forecaster_run_last_success_timestamp_seconds", ""] == 900


@pytest.mark.parametrize(
    ("code", "is_done", "outcome"),
    [
        (0, True, "done"),
        (1, True, "done"),
        (6, True, "done"),
        (143, True, "done"),
        (0, False, "done"),
        (1, False, "failed"),
        (130, False, "interrupted"),
        (143, False, "interrupted"),
    ],
)
def test_one_outcome_is_1(report: Report, *, code: int, is_done: bool, outcome: str) -> None:
    report.is_done = is_done
    got = samples(as_text(ended(report, code), LABELS))
    assert {label: value for (name, label), value in got.items() if name == "forecaster_run_outcome"} == {
        other: float(other == outcome) for other in OUTCOMES
    }
    assert got["forecaster_run_exit_code", ""] == code


def test_a_run_of_the_rates_counts_artists() -> None:
    got = samples(as_text(ended(Report(ARTISTS, results=3)), LABELS))
    assert got["forecaster_run_artists", "rated"] == 3
    assert not [name for name, _ in got if "tracks" in name or "stored_rows" in name]


def test_what_is_unknown_is_left_out() -> None:
    run = Ended(Report(), 3, started=1.0, ended=2.0, last_success=None)
    assert "last_success" not in as_text(run, LABELS)


def test_what_was_implausible(report: Report) -> None:
    report.is_done = True
    assert checks(ended(report)) == dict.fromkeys(CHECKS, 0)
    report.implausible = {"spike": Finding(7, "found", "advice")}
    for code in (1, 6):  # with refused tracks, and with --strict
        found = dict.fromkeys(CHECKS, 0) | {"spike": 7}
        assert checks(ended(report, code)) == report.to_dict()["checks"] == found
    assert samples(as_text(ended(report), LABELS))["forecaster_run_warnings", ""] == 2


def test_a_run_that_failed_before_it_judged_has_no_checks(report: Report) -> None:
    assert checks(ended(report, 3)) == {}
    assert "checks" not in report.to_dict()
    assert checks(ended(Report(ARTISTS))) == {}


def checks(run: Ended) -> dict[str, float]:
    got = samples(as_text(run, LABELS))
    return {label: value for (name, label), value in got.items() if name.endswith("implausible_tracks")}


def test_the_newest_day_of_the_whole_catalogue(report: Report) -> None:
    """The run ends on day 0; day 2 is in the future."""
    report.observed = Observed({-3: Some(1, (1,)), -1: Some(1, (2,)), 2: Some(1, (3,)), None: Some(1, (4,))})
    name = "forecaster_run_newest_date_timestamp_seconds"
    assert name not in as_text(ended(report), LABELS)
    report.is_whole = True
    assert samples(as_text(ended(report), LABELS))[name, ""] == -86400


def test_the_change_of_the_total(report: Report) -> None:
    report.total = 105.0
    got = samples(as_text(ended(report), LABELS))
    assert got["forecaster_run_total_streams", ""] == 105
    assert ("forecaster_run_total_change_ratio", "") not in got
    report.total_before = 100.0
    got = samples(as_text(ended(report), LABELS))
    assert got["forecaster_run_total_change_ratio", ""] == pytest.approx(0.05)


def test_a_label_may_hold_anything() -> None:
    name = 'a "night"\\of\nruns'
    text = as_text(ended(Report()), {"command": "run", "file": name})
    found = {
        sample.labels["file"] for family in text_string_to_metric_families(text) for sample in family.samples
    }
    assert found == {name}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_and_help_follow_the_rules_of_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"forecaster_[a-z_]+", metric.name)
    assert not metric.name.endswith(
        ("_total", "_count", "_sum", "_bucket")
    )  # kept for counters and histograms
    assert metric.help.endswith(".")
    assert not set(metric.help) & {"\\", "\n"}


def test_each_metric_is_described_once() -> None:
    for report in (Report(buckets=0), Report(ARTISTS)):
        text = as_text(ended(report), LABELS)
        described = re.findall(r"^# HELP (\S+)", text, re.MULTILINE)
        assert described == re.findall(r"^# TYPE (\S+) gauge$", text, re.MULTILINE)
        assert len(described) == len(set(described)) > 10
