"""What `calibrate` prints about a record agrees with the numbers in it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest

from forecaster.cli.calibration import told, trust
from forecaster.model.calibrated.calibration import Calibration, Choice, ModelErrors, RatedArtists
from forecaster.model.calibrated.uncertainty import Errors, OwnErrors
from tests.calibrations import calibration

D = date(2024, 6, 30)


def with_origins(number: int, *, months: Sequence[int] = range(1, 13)) -> Calibration:
    """With origins 30, 60, ... days before D, and the figures that follow for its model."""
    own = tuple(
        OwnErrors(month, number + 1 - month, number / month, 0.1, 0.1, 100, 0.2, 0.4) for month in months
    )
    return replace(
        calibration(D),
        origins=tuple(D - timedelta(30 * back) for back in range(1, number + 1)),
        choice=Choice(0.0, 7, is_measured=True),
        errors=(ModelErrors(0.0, 7, Errors(own)), ModelErrors(1.0, 7, Errors())),
    )


def test_two_years_of_origins_are_two_independent_ones_over_twelve_months() -> None:
    """24 origins, of which the 13 before D - 330 days have a twelfth month."""
    assert [*trust(with_origins(24))] == [
        "66 months of history, 24 origins;",
        "13 origins of 12 months count as 2.0 independent ones, other catalogues as 3:",
        "intervals rest mostly on this catalogue up to month 7, then on other catalogues",
    ]


@pytest.mark.parametrize(
    ("origins", "months", "said"),
    [
        (3, range(1, 4), "other catalogues"),
        (4, range(1, 5), "this catalogue up to month 1, then on other catalogues"),
        (40, range(1, 13), "this catalogue"),
    ],
)
def test_what_counts_more_is_said_by_month(origins: int, months: Sequence[int], said: str) -> None:
    assert [*trust(with_origins(origins, months=months))][-1] == f"intervals rest mostly on {said}"


def test_without_an_origin_other_catalogues_count_alone() -> None:
    assert [*trust(calibration(D))] == [
        "66 months of history, no origin (it needs 8 full weeks of 3 tracks before it):",
        "intervals rest on other catalogues alone",
    ]


def test_a_choice_from_few_months_says_how_little_that_is() -> None:
    """Three origins with 1, 2 and 3 months of one quarter are about one."""
    few, many = ([*told(with_origins(n, months=range(1, min(n, 12) + 1)))] for n in (3, 24))
    said = "  measured on {} origins of up to {} months: they say as much as about {}"
    assert said.format(3, 3, "1.0") in few
    assert said.format(24, 12, "2.0") in many
    none = replace(with_origins(3), choice=Choice())
    assert "  the default: fewer than 3 origins with 26 full weeks of 3 tracks before them" in told(none)


def test_it_says_how_many_artists_had_a_rate_that_was_known_in_the_past() -> None:
    none = "production has 0 at an origin where no decay rate (MLDR) was known"
    read = with_origins(3)
    assert none in told(read)
    made = [*told(replace(read, artists=RatedArtists(1_044, 1, 0)))]
    assert f"{none}:" in made
    assert "of 1,044 artists, 1 had one that was known at an origin" in made
    undated = [*told(replace(read, artists=RatedArtists(1_044, 1_002, 1_001)))]
    assert undated[undated.index(f"{none}:") + 2 :][:2] == [
        "those of 1,001 artists have no date: they count at every origin,",
        "and may know later days",
    ]
    assert not any("MLDR" in line for line in told(replace(read, origins=())))


def test_it_fits_into_eighty_columns() -> None:
    for number in (24, 100):
        artists = RatedArtists(10_000_000, 10_000_000, 10_000_000)
        assert max(map(len, told(replace(with_origins(number), artists=artists)))) <= 80
    assert max(map(len, told(replace(calibration(D), choice=Choice())))) <= 80
