"""Whether what comes in is plausible: each check, on catalogues in memory that hurt."""

from contextlib import nullcontext
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from forecaster.errors import ImplausibleError, InvalidOptionError
from forecaster.model.parameters import Parameters
from forecaster.run.config import RunConfig
from forecaster.run.memory import Memory
from forecaster.run.plausible import (
    CHECKS,
    Facts,
    Finding,
    Observed,
    Plausibility,
    Some,
    observed_of,
    warning,
)
from forecaster.run.report import Report
from forecaster.run.session import run
from tests.documents import page_named
from tests.plausible import ENDS, SCHEMA, TODAY, rates, steady, track
from tests.tables import golden_mldr, golden_streams


def judged(
    tracks: list[pl.DataFrame], mldr: pl.DataFrame | None = None, **options: Any
) -> dict[str, Finding]:
    """What is implausible, in batches of three tracks."""
    streams = pl.concat(tracks) if tracks else pl.DataFrame(schema=SCHEMA)
    memory = Memory(streams, rates(30) if mldr is None else mldr, batch=3)
    return run(memory, RunConfig(**options)).implausible


def thresholds(**values: float | None) -> Plausibility:
    return Plausibility(tuple(values.items()))


def test_nothing_is_said_of_a_plausible_catalogue() -> None:
    report = run(Memory(pl.concat(steady(25)), rates(25)))
    assert (report.implausible, report.all_warnings) == ({}, [])
    assert report.to_dict()["checks"] == dict.fromkeys(CHECKS, 0)


def test_the_golden_catalogue_is_old_and_otherwise_plausible() -> None:
    memory = Memory(golden_streams(), golden_mldr())
    assert run(memory, RunConfig(dry_run=True)).implausible.keys() == {"age"}
    as_of = Parameters(as_of=date(2023, 4, 1))
    assert run(memory, RunConfig(as_of, dry_run=True)).implausible == {}
    config = RunConfig(dry_run=True, plausibility=thresholds(age=None))
    assert run(memory, config).implausible == {}


def test_a_dead_feed_is_old_to_the_day() -> None:
    def ending(days: int) -> set[str]:
        return {*judged(steady(3, end=TODAY - timedelta(days=days)))}

    assert [ending(days) for days in (7, 8)] == [set(), {"age"}]
    old = steady(3, end=TODAY - timedelta(days=8))
    assert judged(old, plausibility=thresholds(age=8)) == {}
    found = judged(old)["age"]
    assert (found.tracks, found.found) == (
        1,
        f"the newest day is {TODAY - timedelta(days=8)}, over 7 days ago",
    )


def test_the_age_is_known_of_tracks_that_have_their_forecast() -> None:
    """Nothing is pending in most nights."""
    memory = Memory(pl.concat(steady(3, end=TODAY - timedelta(days=35))), rates(3))
    assert [[*run(memory).implausible] for _ in range(2)] == [["age"], ["age"]]
    memory.streams = pl.concat([memory.streams, track(4, [50.0] * 90, end=TODAY - timedelta(days=1))])
    memory.mldr = rates(4)
    report = run(memory)
    assert (report.pending, [*report.implausible]) == (1, ["ended"])
    assert report.implausible["ended"].tracks == 3


def test_with_as_of_the_age_is_measured_then() -> None:
    def seen(days: int) -> dict[str, Finding]:
        return judged(steady(3), parameters=Parameters(as_of=ENDS + timedelta(days=days)))

    assert seen(7) == {}
    assert seen(8)["age"].found.endswith("over 7 days before --as-of")


def test_tracks_that_end_before_the_others_are_named() -> None:
    early = [track(number, [50.0] * 90, end=ENDS - timedelta(days=8)) for number in (9, 5, 7, 6)]
    found = judged([*steady(4), *early, track(8, [50.0] * 90, end=ENDS - timedelta(days=7))])
    assert [*found] == ["ended"]
    assert found["ended"].tracks == 4
    assert found["ended"].found == "tracks ending over 7 days early: 4 (first: 5, 6, 7)"


@pytest.mark.parametrize(("days", "is_found"), [(7, False), (8, True), (60, True), (61, False), (400, False)])
def test_a_track_that_was_taken_down_is_no_warning_for_ever(*, days: int, is_found: bool) -> None:
    gone = track(5, [50.0] * 90, end=ENDS - timedelta(days=days))
    assert [*judged([*steady(4), gone])] == (["ended"] if is_found else [])
    strict = Plausibility(strict=("ended",))
    with pytest.raises(ImplausibleError) if is_found else nullcontext():
        strict.refuse(judged([*steady(4), gone], plausibility=strict), hint="")


@pytest.mark.parametrize("day", [date(2062, 1, 1), date(2204, 3, 1), date(9999, 12, 31)])
def test_a_day_in_the_future_is_named_and_hides_no_dead_feed(day: date) -> None:
    old = steady(3, end=TODAY - timedelta(days=35))
    found = judged([*old, track(9, [50.0], end=day), track(9, [50.0] * 60, end=TODAY - timedelta(days=35))])
    assert found.keys() == {"future", "age"}
    assert found["future"].found == f"tracks with days up to {day}: 1 (first: 9)"


def test_tomorrow_is_not_the_future() -> None:
    """Somewhere it is today."""
    assert judged(steady(3, end=TODAY + timedelta(days=1))) == {}
    assert judged(steady(3, end=TODAY + timedelta(days=2)))["future"].tracks == 3


def test_a_day_that_no_calendar_has_can_be_named() -> None:
    facts = Facts(Observed({10**8: Some(1, (4,)), -(10**8): Some(1, (5,))}), TODAY, is_whole=True)
    found = Plausibility().judge(facts)
    assert found["future"].found.endswith("up to a day after 9999-12-31: 1 (first: 4)")
    assert found["age"].found.startswith("the newest day is a day before 0001-01-01")


def test_five_zero_filled_days() -> None:
    filled = [track(number, [50.0] * 90 + [0.0] * 5) for number in range(1, 26)]
    found = judged(filled)["zeros"]
    assert found.tracks == 25
    assert found.found == "tracks ending in zeros: 100.0 %, 25 (first: 1, 2, 3)"
    assert judged(filled, plausibility=thresholds(zeros=100)) == {}


@pytest.mark.parametrize(
    "streams",
    [
        [0.0] * 100,  # zero forever
        [50.0] * 60 + [0.0] * 60,  # ended two months ago
        [1.0] * 97 + [0.0] * 3,  # too few for three days without a stream to be strange
        [50.0] * 98 + [0.0] * 2,
        [50.0] * 97 + [None] * 3,  # NULL is not zero
    ],
)
def test_zeros_that_say_nothing_about_a_feed(streams: list[float | None]) -> None:
    end = ENDS + timedelta(days=2)
    assert "zeros" not in judged([track(number, streams, end=end) for number in range(1, 26)])


def test_a_share_of_few_tracks_says_nothing() -> None:
    assert judged([track(number, [50.0] * 90 + [0.0] * 5) for number in range(1, 20)]) == {}
    twenty = [*steady(19), track(20, [50.0] * 90 + [0.0] * 5)]  # exactly 5 %
    assert judged(twenty) == {}
    assert judged(twenty, plausibility=thresholds(zeros=4.9))["zeros"].tracks == 1


@pytest.mark.parametrize(("rate", "is_found"), [(50, True), (-1.5, True), (1.0, False), (-1.0, False)])
def test_a_decay_rate_of_fifty_is_named(*, rate: float, is_found: bool) -> None:
    found = judged(steady(4), rates(4, a3=rate))
    assert [*found] == (["rates"] if is_found else [])
    if is_found:
        assert found["rates"].found.endswith("outside -1..1: 1 (first: 3)")
    assert judged(steady(4), rates(4, a3=rate), plausibility=thresholds(rates=50)) == {}


@pytest.mark.parametrize("rate", [None, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_skipped_and_not_implausible(rate: float | None) -> None:
    assert judged(steady(4), rates(4, a3=rate)) == {}


def test_a_spike_that_would_be_taken_at_face_value() -> None:
    """11 million a month, and then 184."""
    month = 11e6 / 30
    spiked = track(5, [month] * 335 + [month] * 29 + [173e6])
    found = judged([*steady(4), spiked])
    assert [*found] == ["spike"]
    assert found["spike"].found.endswith("over 10 times their past level: 1 (first: 5)")
    assert judged([*steady(4), spiked], plausibility=thresholds(spike=17)) == {}


@pytest.mark.parametrize(
    "streams",
    [
        [1.0] * 29 + [500.0] * 30,  # too young
        [0.0] * 335 + [500.0] * 30,  # began now, after days that were filled with zeros
        [500.0] * 20,
    ],
)
def test_a_young_track_has_no_spike(streams: list[float | None]) -> None:
    assert judged([*steady(4), track(5, streams)]) == {}


def test_an_empty_catalogue_and_a_small_one() -> None:
    assert judged([])["tracks"].found == "tracks with streams: 0, fewer than 1"
    assert judged(steady(4), plausibility=thresholds(tracks=5))["tracks"].tracks == 1
    assert judged(steady(4), plausibility=thresholds(tracks=4)) == {}


def test_half_of_the_tracks_skipped() -> None:
    none = {f"a{number}": None for number in range(1, 3)}
    found = judged(steady(4), rates(4, **none))["skipped"]
    assert (found.tracks, found.found) == (2, "skipped tracks: 2 of 4, 50.0 %, at least 50 %")
    assert judged(steady(5), rates(5, **none)) == {}
    assert judged([track(1, [50.0] * 90)], rates(1, a1=None))["skipped"].tracks == 1


def test_what_stays_skipped_every_night_is_a_share_of_all() -> None:
    memory = Memory(pl.concat(steady(10)), rates(10, a1=None))
    assert [(run(memory).pending, len(run(memory).skipped)) for _ in range(2)] == [(10, 1), (1, 1)]
    assert run(memory).implausible == {}


def test_of_some_tracks_only_they_are_judged() -> None:
    """Not the age of a catalogue, of which nothing is known."""
    ids = {"ids": (1, 2)}
    assert judged(steady(30, end=TODAY - timedelta(days=60)), rates(30, a1=50.0, a2=None), **ids).keys() == {
        "rates"
    }


def test_tracks_without_a_single_record() -> None:
    assert judged([*steady(3), track(4, [None] * 40)]) == {}
    assert judged([track(1, [None] * 40)]).keys() == {"skipped"}


@pytest.mark.parametrize(
    ("before", "now", "is_found"),
    [
        (100.0, 110.0, False),
        (100.0, 111.0, True),
        (100.0, 89.0, True),
        (0.0, 50.0, False),
        (None, 9.0, False),
    ],
)
def test_a_total_that_moved(*, before: float | None, now: float, is_found: bool) -> None:
    facts = Facts(Observed({}), TODAY, total=now, total_before=before)
    assert [*Plausibility().judge(facts)] == (["total"] if is_found else [])
    assert Plausibility((("total", 12.0),)).judge(facts) == {}
    if is_found:
        assert "since the run before, over 10 %" in Plausibility().judge(facts)["total"].found


def test_the_change_of_a_total_is_written_as_everywhere() -> None:
    facts = Facts(Observed({}), TODAY, total=1136.1, total_before=100.0)
    assert " +1,036.1 % " in Plausibility().judge(facts)["total"].found


@pytest.mark.parametrize(("limit", "is_whole"), [(2, True), (None, False), (None, True)])
def test_a_total_is_judged_if_all_was_looked_at(*, limit: int | None, is_whole: bool) -> None:
    report = Report(asked={"limit": limit}, is_whole=is_whole, total=289.0, total_before=100.0)
    report.observed = Observed({(ENDS - date(1970, 1, 1)).days: Some(20, (1, 2, 3))})
    report.judge(Plausibility(), TODAY)
    assert [*report.implausible] == ([] if limit or not is_whole else ["total"])


def test_each_warning_fits_into_a_line() -> None:
    ids = (12345, 23456, 34567)
    newest = (ENDS - date(1970, 1, 1)).days
    ends: dict[int | None, Some] = {
        newest - 7: Some(8000, ids),
        newest - 30: Some(1234, ids),
        newest + 900: Some(12, ids),
    }
    found = {"zeros": Some(7012, ids), "rates": Some(12, ids), "spike": Some(19, ids)}
    seen = Observed(ends, found, dict.fromkeys(found, 8000))
    judged = Plausibility().judge(
        Facts(seen, TODAY, is_whole=True, skipped=7000, total=1000.0, total_before=5.0)
    )
    assert judged.keys() == CHECKS.keys() - {"tracks"}
    assert max(len(f"Warning: {warning(name, one)}") for name, one in judged.items()) <= 120


def test_strict_checks_fail_all_or_one_by_one() -> None:
    report = Report()
    run(Memory(pl.concat(steady(4, end=TODAY - timedelta(days=60))), rates(4, a3=50.0)), report=report)
    assert report.implausible.keys() == {"age", "rates"}
    assert {name: number for name, number in report.to_dict()["checks"].items() if number} == {
        "age": 1,
        "rates": 1,
    }
    for strict in [(), ("future",), ("none",)]:
        Plausibility(strict=strict).refuse(report.implausible, hint="")
    for strict, named in [(("age",), "age"), (("all",), "age, rates"), (("rates", "age"), "age, rates")]:
        with pytest.raises(ImplausibleError, match=f": {named}$") as error:
            Plausibility(strict=strict).refuse(report.implausible, hint="look")
        assert (error.value.exit_code, error.value.hint) == (6, "look")


@pytest.mark.parametrize(
    ("thresholds", "strict"),
    [((("agee", 3.0),), ()), ((), ("agee",)), ((("all", 3.0),), ("all",)), ((("age", -1.0),), ())],
)
def test_what_is_no_check_is_refused(thresholds: Any, strict: Any) -> None:
    with pytest.raises(InvalidOptionError):
        Plausibility(thresholds, strict)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_threshold_is_a_finite_number(value: float) -> None:
    with pytest.raises(InvalidOptionError, match="expected at least 0, or off"):
        thresholds(age=value)


def test_the_last_threshold_counts_and_the_others_keep_their_default() -> None:
    limits = Plausibility((("age", 3.0), ("spike", None), ("age", 4.0))).limits
    assert limits == {name: check.threshold for name, check in CHECKS.items() if name != "spike"} | {
        "age": 4.0
    }


def test_what_was_observed_survives_json() -> None:
    seen = Observed({None: Some(1, (3,)), 19_000: Some(5, (1, 2, 4))}, {"rates": Some()}, {"rates": 6})
    assert observed_of(seen.to_json()) == seen
    both = seen + seen
    assert (both.tracks, both.among, both.ends[19_000]) == (12, {"rates": 12}, Some(10, (1, 2, 4)))


@pytest.mark.parametrize("name", CHECKS)
def test_the_manual_lists_each_check(name: str) -> None:
    check = CHECKS[name]
    row = f"| `{name}` | {check.meaning} | {check.threshold:g} |"
    assert row in page_named("docs/plausible.md").splitlines(), f"put this into docs/plausible.md:\n{row}"
