"""The style and the script of the page, joined from their files."""

import re

import pytest

from forecaster.views.page.joined import script, style


@pytest.mark.parametrize("entry", ["page.js", "page_evaluated.js"])
def test_modules_are_joined_once_and_after_those_that_they_need(entry: str) -> None:
    joined = script(entry)
    assert not re.search(r"^(import|export) |^\s*//|^\s*\*|/\*|^ ", joined, re.MULTILINE)
    order = ["function byId(", "const whole", "function chart(", "start(draw"]
    places = [joined.index(name) for name in order]
    assert places == sorted(places)
    assert [joined.count(name) for name in order] == [1] * len(order)


def test_only_the_page_of_an_evaluation_has_its_module() -> None:
    assert "drawEvaluation" in script("page_evaluated.js")
    assert "drawEvaluation" not in script("page.js")


def test_style_sheets_have_neither_comments_nor_indentation() -> None:
    joined = style("style.css", "evaluation.css")
    assert "\n " not in joined
    assert "/*" not in joined
    assert joined.startswith(style("style.css"))
