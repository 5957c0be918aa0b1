"""Check that the streams and decay rates are plausible, by the rules of a run."""

from collections.abc import Iterator
from datetime import UTC, datetime

from forecaster.doctor.checks import check
from forecaster.doctor.context import Context
from forecaster.doctor.findings import Seen
from forecaster.files.paths import counted
from forecaster.frames.collecting import collect_all
from forecaster.model.features import track_features
from forecaster.run.observe import by_end, observed, suspicious
from forecaster.run.plausible import Facts, Limits, Observed
from forecaster.views.catalogue import CHUNK


@check("plausibility", order=180)
def plausibility(context: Context) -> Iterator[Seen]:
    """Judge all tracks with streams, as a run judges those that it looks at."""
    if not context.can_count or context.plausibility is None:
        return
    rules = context.plausibility
    seen = _observed(context, rules.limits)
    facts = Facts(
        seen,
        datetime.now(UTC).date(),
        context.parameters.as_of,
        is_whole=True,
        skipped=context.result.counts["skipped"],
    )
    implausible = rules.judge(facts)
    for name, finding in implausible.items():
        yield "warning", f"{name}: {finding.found}", finding.advice
    if not implausible:
        yield "ok", f"{counted(seen.tracks, 'track')}: {', '.join(rules.limits)}", None
    rules.refuse(implausible, hint="correct the data, or change --threshold or --strict")


def _observed(context: Context, limits: Limits) -> Observed:
    source, parameters, tracks = context.source, context.parameters, context.streamed
    mldr, seen = source.mldr(), Observed()
    for start in range(0, len(tracks), CHUNK):
        history = source.history(tracks.slice(start, CHUNK))
        features = track_features(
            history.records, history.facts, age_from=parameters.age_from, as_of=parameters.as_of
        ).join(mldr, on="cm_artist_id", how="left")
        seen += observed(*collect_all([by_end(features), suspicious(features, limits)]))
    return seen
