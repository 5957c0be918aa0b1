"""A finding, and the examination that collects all findings."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Level = Literal["ok", "warning", "error"]

Seen = tuple[Level, str, str | None]
"""What a check yields: level, finding, and fix."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    about: str
    """The subject, in a few words."""
    level: Level
    found: str
    """The state, in a sentence."""
    fix: str | None = None
    """A command or SQL to paste, or other advice; None if nothing is to be done."""
    exit_code: int = 1
    """The exit code of `run`, if it is an error."""


@dataclass
class Examination:
    """All findings, in the order in which a run would meet them."""

    database: str = ""
    """Without password."""
    schema: str = "public"
    findings: list[Finding] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    """Of Python, the server (if it was reached) and the libraries."""
    counts: dict[str, int] = field(default_factory=dict)
    """Tracks, rows and artists, as far as they could be counted."""
    skipped_by_reason: dict[str, int] = field(default_factory=dict)
    """Number of pending tracks that a run would skip, by reason, most frequent first."""

    @property
    def exit_code(self) -> int:
        """The exit code of `run` for the first error; 0 without one."""
        return next((finding.exit_code for finding in self.findings if finding.level == "error"), 0)

    def to_dict(self) -> dict[str, Any]:
        """Return everything in JSON types."""
        found = asdict(self)
        for finding in found["findings"]:
            del finding["exit_code"]
        return {**found, "exit_code": self.exit_code}
