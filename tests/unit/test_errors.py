"""The module of errors opens with their tree: each class below its base class, with its exit code."""

import re
from collections.abc import Iterator

import forecaster.postgres.sifting  # it has one of the errors
import forecaster.process.unexpected  # noqa: F401 - it has one, too
from forecaster import errors
from forecaster.errors import ForecasterError

LINE = re.compile(r"^(?P<indent>[│├└─ ]*)(?P<name>\w+Error) +(?P<code>\d)\b", re.MULTILINE)


def in_the_tree() -> Iterator[tuple[str | None, str, int]]:
    above: list[str] = []
    for line in LINE.finditer(errors.__doc__ or ""):
        del above[len(line["indent"]) // 4 :]
        yield above[-1] if above else None, line["name"], int(line["code"])
        above.append(line["name"])


def in_the_code(
    root: type[ForecasterError], parent: str | None = None
) -> Iterator[tuple[str | None, str, int]]:
    if root.__module__.startswith("forecaster.") and not root.__name__.startswith("_"):
        yield parent, root.__name__, root.exit_code
        for below in root.__subclasses__():
            yield from in_the_code(below, root.__name__)


def test_the_tree_has_each_error_with_its_exit_code() -> None:
    shown = list(in_the_tree())
    assert len(shown) == len(set(shown))
    assert set(shown) == set(in_the_code(ForecasterError))


def test_each_class_says_whether_a_retry_makes_sense() -> None:
    public = [
        one for one in vars(errors).values() if isinstance(one, type) and one.__module__ == errors.__name__
    ]
    assert [one.__name__ for one in public if not re.search(r"\b[Rr]etry\b", one.__doc__ or "")] == []
