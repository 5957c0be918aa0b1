"""The benchmark's targets: each is computed from the rounds, and one that was not measured says so."""

from typing import Any

from benchmarks.targets import Target, original_by_day, targets


def layout(seconds: float, floor: float = 1.0, before: float = 1.0) -> dict[str, Any]:
    return {"program": {"seconds": seconds}, "floor": {"seconds": floor}, "before": {"seconds": before}}


def away(seconds: float, connections: int = 4, bytes_out: int = 0) -> dict[str, Any]:
    return {"seconds": seconds, "connections": connections, "bytes_out": bytes_out}


def result(**changed: Any) -> dict[str, Any]:
    measured = {
        "layouts": {
            "by day": layout(1.5),
            "by track": layout(1.2, floor=1.0),
            "24 partitions, plain key": layout(3.0, before=20.0),
            "24 partitions, no key": layout(4.0, before=4.0),
        },
        "away": {
            "0 ms": away(2.0),
            "50 ms": away(3.5),
            "0 ms, 100 Mbit/s": away(3.0, bytes_out=4 * 1_000 + 36 * 8_459),
        },
        "all_rows": {"by day": 9.0, "by track": 4.0},
        "new_day": {"by day": 0.3, "by day, plain key": 0.1},
    }
    growth = {"by_day": [{"tracks": 10, "seconds": 1.0, "peak_mb": 300.0},
                         {"tracks": 160, "seconds": 12.0, "peak_mb": 330.0}]}  # fmt: skip
    return {
        "catalogue": {"tracks": 8_459, "values": 1_000},
        "growth": growth,
        "rounds": [measured],
        **changed,
    }


def found(of: dict[str, Any]) -> dict[str, Target]:
    return {target.what: target for target in targets(of)}


def test_each_figure_is_computed_from_what_was_measured() -> None:
    measured = {what: target.measured for what, target in found(result()).items()}
    expected = {
        "by day / by track": 1.25,
        "24 partitions, plain key / the better one of the version before": 0.75,
        "24 partitions, no key / the better one of the version before": 1.0,
        "50 ms away: round trips waited for": 30.0,
        "50 ms away: connections": 4.0,
        "bytes out / what the model needs as integers": 1.0,
        "by track: run / floor": 1.2,
        "the original / a run, by track": 66.8 / 1.2,
        "the original / a run, by day": 71.8 / 1.5,
        "16 times as many tracks, by day / linear": 0.75,
        "the same: peak memory": 1.1,
        "load of a new day, covering key / plain key": 3.0,
    }
    assert {what: round(measured[what] or 0, 9) for what in expected} == {
        what: round(value, 9) for what, value in expected.items()
    }
    assert {what for what, value in measured.items() if value is None} == measured.keys() - expected.keys()


def test_a_bound_can_be_an_upper_or_a_lower_one() -> None:
    lines = {what: target.line[3] for what, target in found(result()).items()}
    assert lines["by day / by track"] == "yes"
    assert lines["load of a new day, covering key / plain key"] == "no"
    assert lines["the original / a run, by track"] == "no"
    assert lines["the original / a run, by day"] == "yes"
    assert lines["100 ms away: seconds more than near"] == "not measured"


def test_the_original_is_compared_only_on_the_catalogue_on_which_it_ran() -> None:
    small = found(result(catalogue={"tracks": 100, "values": 1_000}))
    assert small["the original / a run, by track"].measured is None


def test_by_day_the_original_reads_longer() -> None:
    assert original_by_day(result()) == (71.8, 5.0)
