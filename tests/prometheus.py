"""Metrics as Prometheus reads them."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, str], float]
"""Values by the metric's name, and by the value of the sample's own label, or ""."""

COMMON = ("command", "file")
"""The labels that each sample has."""


def samples(text: str) -> Samples:
    """Every sample of a file in the text format."""
    return {
        (sample.name, "".join(value for label, value in sample.labels.items() if label not in COMMON)): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(path: Path) -> Samples:
    """Every sample of a file, with that the program of the tests has written."""
    return samples(path.read_text("utf-8"))
