"""What tests need of the machine: who has it not is told what to install, and CI does without nothing."""

import pytest

from tests.needs import CHROMIUM, chromium, need


def test_what_is_there_is_no_reason_to_skip() -> None:
    need("/usr/bin/it", "it", {"CI": "true"})


@pytest.mark.parametrize("ci", [{}, {"CI": ""}, {"CI": "false"}])
def test_skipped_with_what_to_install(ci: dict[str, str]) -> None:
    with pytest.raises(pytest.skip.Exception, match="needs it: install it"):
        need(None, "it: install it", ci)


@pytest.mark.parametrize("ci", ["true", "1"])
def test_in_ci_it_fails(ci: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="needs it: install it"):
        need(None, "it: install it", {"CI": ci})


def test_without_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception) as skipped:
        chromium("/nonexistent/chrome")
    assert str(skipped.value) == f"needs {CHROMIUM}"
    assert chromium(__file__) == __file__
