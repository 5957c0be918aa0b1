"""Every command: its help, its arguments and its options. What it does is in the file of its name."""

import click

from forecaster.cli import options
from forecaster.cli.command import Command
from forecaster.cli.options import (
    BUCKET,
    DAY,
    DIRECTORY,
    FILE,
    FILE_OR_DIRECTORY,
    ID,
    FloatRange,
    IntRange,
    option,
    out_option,
    source_option,
    track_option,
)

COMMANDS = (
    Command(
        "demo",
        """Try it: embedded server, sample catalogue, run, dump of one track.

        It works in a schema of its own, "demo". Again is fine: it reuses what is there. Another number of
        --tracks than is there begins anew.

        \b
        Example:
          forecaster demo --tracks 8459
        """,
        option(
            "--tracks",
            type=IntRange(1, 100_000),
            metavar="N",
            help="Tracks in the sample catalogue.  [default: 300]",
        ),
        options.DATA_DIR,
        out_option("CSV or Parquet file for the one track.  [default: track_<id>_forecast.csv]"),
    ),
    Command(
        "init",
        """Create what is missing of the tables; what exists is left as it is.

        Only a unique key on (cm_track_id, month) is added to a forecast table that has none, where its rows
        and the user's rights allow it.

        \b
        Example:
          forecaster init --database-url postgresql://me@localhost/music
        """,
        *options.DATABASE,
    ),
    Command(
        "load",
        """Load STREAMS, decay rates and listeners, CSV or Parquet, into their tables: all rows or none.

        Each is a file, or a directory of such files, which are loaded together.

        STREAMS has the columns cm_track_id, cm_artist_id, date, daily_streams and, if known,
        days_from_release; or it is one track's export of a music-analytics service (Date, Value,
        Days from release; or date, streams), with --track-id and --artist-id. An export of listeners
        has Date and Monthly Listeners.

        \b
        Examples:
          forecaster load streams.parquet --mldr mldr.csv
          forecaster load export.csv --track-id 42 --artist-id 7 --new-only
          forecaster load --listeners listeners.parquet
        """,
        click.Argument(["streams"], type=FILE_OR_DIRECTORY, required=False),
        option("--mldr", type=FILE_OR_DIRECTORY, help="File with cm_artist_id and mldr."),
        option(
            "--listeners",
            type=FILE_OR_DIRECTORY,
            help="File with cm_artist_id, date and monthly_listeners, or one artist's export.",
        ),
        track_option("Track of an exported STREAMS file, which names none."),
        option("--artist-id", type=ID, metavar="ID", help="Artist of an exported file."),
        option(
            "--new-only",
            is_flag=True,
            help="Store only days that the table does not have yet; those that it has stay as they are.",
        ),
        *options.DATABASE,
    ),
    Command(
        "mldr",
        """Compute the decay rate (MLDR) of every artist that has listeners and no rate, and store it.

        Exit codes are those of run.

        \b
        Examples:
          forecaster mldr
          forecaster mldr --replace --artist-id 7
        """,
        option(
            "--artist-id",
            "artist_ids",
            type=ID,
            metavar="ID",
            multiple=True,
            help="Only this artist, if it has no rate.",
        ),
        option("--replace", is_flag=True, help="Also artists that have a rate: it is replaced."),
        option("--dry-run", is_flag=True, help="Everything but the write."),
        *options.REPORTING,
        *options.DATABASE,
    ),
    Command(
        "run",
        """Forecast every pending track, and store the result.

        Pending is each track that has streams and no forecast. With --source and --sink the catalogue is
        in Parquet files and no database is used: then all tracks are forecast, and buckets of them that
        are there already are left alone.

        \b
        Exit code: 0 done (skipped tracks are no failure), 1 failed, 2 wrong call, 3 no connection,
        4 the tables do not fit, 5 another run is at work, 130 or 143 interrupted.

        \b
        Examples:
          forecaster run
          forecaster run --horizon 400 --influence 1000 --limit 100 --dry-run
          forecaster run --replace --track-id 42 --report report.json
          forecaster run --source catalogue --sink forecasts --engine dask
        """,
        *options.PARAMETERS,
        option(
            "--track-id",
            "track_ids",
            type=ID,
            metavar="ID",
            multiple=True,
            help="Only this track, if pending.",
        ),
        option("--limit", type=IntRange(1), metavar="N", help="Look at no more than so many pending tracks."),
        option("--replace", is_flag=True, help="Also tracks that have a forecast: it is replaced."),
        option("--dry-run", is_flag=True, help="Everything but the write."),
        *options.FILES,
        option(
            "--engine",
            type=click.Choice(["local", "dask"]),
            default="local",
            show_default=True,
            help="What spreads the work: this process, or Dask over worker processes.",
        ),
        option(
            "--scheduler",
            metavar="ADDRESS",
            help="Dask's scheduler, as tcp://HOST:PORT.  [default: workers of its own, one per core]",
        ),
        *options.REPORTING,
        *options.DATABASE,
    ),
    Command(
        "dump",
        """Forecast one track into a file, and show all that its numbers follow from. Stores nothing.

        \b
        Example:
          forecaster dump --track-id 42 --out track_42.parquet
        """,
        track_option("The track.  [default: the first pending one with a forecast]"),
        out_option("CSV or Parquet, by its ending.  [default: track_<id>_forecast.csv]"),
        *options.PARAMETERS,
        *options.DATABASE,
    ),
    Command(
        "plot",
        """Draw one track: its history, its forecast, the lifecycle segments, the base curve.

        A file needs the extra "plot", and the terminal the extra "term".

        \b
        Examples:
          forecaster plot --track-id 42
          forecaster plot --track-id 42 --out track_42.html
        """,
        track_option("The track.", required=True),
        out_option("HTML, PNG or SVG, by its ending.  [default: a chart in the terminal]"),
        *options.PARAMETERS,
        *options.DATABASE,
    ),
    Command(
        "report",
        """Draw the catalogue as it is stored: one page that holds all it needs.

        Totals per month, segments and influence ranges, skipped tracks by reason, the largest tracks, and a
        table of all of them with a chart each.

        \b
        Example:
          forecaster report --out report.html
        """,
        out_option("The HTML file.", required=True),
        options.AGE_FROM,
        *options.DATABASE,
    ),
    Command(
        "export",
        """Write the stored forecasts in the form that the field's tools take.

        nixtla: unique_id, ds, y, cutoff, h. Month h covers the 30 days up to ds; cutoff is the day before the
        first of them.

        \b
        Example:
          forecaster export --format nixtla --out forecasts.parquet
        """,
        option(
            "--format",
            "form",
            type=click.Choice(["nixtla"]),
            default="nixtla",
            show_default=True,
            help="Columns.",
        ),
        out_option("CSV or Parquet, by its ending.", required=True),
        option(
            "--as-of",
            type=DAY,
            metavar="DATE",
            help="The --as-of that the forecasts were made with.  "
            "[default: the last date that each could know]",
        ),
        *options.DATABASE,
    ),
    Command(
        "evaluate",
        """Compare forecasts with the streams that came after them.

        The stored ones, from each track's as-of date on; or ones made on the spot with --cutoff, from the
        days before it alone. Only whole months of 30 days count.

        \b
        Examples:
          forecaster evaluate --actuals later.parquet
          forecaster evaluate --cutoff 2023-01-01 --cutoff 2023-07-01 --json
        """,
        option(
            "--actuals",
            metavar="TABLE|SCHEMA.TABLE|FILE",
            help="Later daily streams of the same tracks: a table with cm_track_id, date and daily_streams, "
            "or a CSV or Parquet file, which has cm_artist_id as well. They count from each origin on; what "
            "is before comes from the streams table.  [default: what the streams table holds by now]",
        ),
        option(
            "--cutoff",
            "cutoffs",
            type=DAY,
            metavar="DATE",
            multiple=True,
            help="Forecast from the days before this one, instead of taking the stored forecasts.",
        ),
        option(
            "--later-rates",
            is_flag=True,
            help="Where no decay rate can be known at a cutoff, take the stored one, which may know later "
            "days.",
        ),
        option(
            "--track-id",
            "track_ids",
            type=ID,
            metavar="ID",
            multiple=True,
            help="Only this track. The pooled baseline is of the chosen tracks only.",
        ),
        option(
            "--horizon",
            shared=True,
            type=IntRange(1, 400),
            metavar="N",
            help="Months to forecast, or of the stored forecasts to score.  [default: 24, or all that are "
            "stored]",
        ),
        options.AGE_FROM,
        option(
            "--as-of",
            type=DAY,
            metavar="DATE",
            help="The last day that the stored forecasts knew.  [default: of each track the last date among "
            "the rows that were there, by created_at, when its forecast was stored; a row that was restated "
            "later counts as later, and where created_at means something else, give this option]",
        ),
        option(
            "--influence",
            shared=True,
            type=FloatRange(0),
            metavar="VALUE",
            help="With --cutoff, one influence for all tracks.  [default: 10 x streams of the last 30 "
            "records]",
        ),
        out_option("Write all scores, CSV or Parquet by its ending."),
        option(
            "--json", "as_json", is_flag=True, help="Print all scores as JSON, and nothing else, on stdout."
        ),
        option(
            "--page",
            type=FILE,
            metavar="FILE.html",
            help="Write the catalogue's page (see report) with these scores in it.",
        ),
        *options.DATABASE,
    ),
    Command(
        "prepare",
        """Lay a catalogue out in Parquet, by track, in N buckets that can be worked one by one.

        It streams, so that the size of the catalogue does not matter. From the database it takes the
        tables of the streams and of the decay rates.

        \b
        Examples:
          forecaster prepare --buckets 64 --out catalogue
          forecaster prepare --source 'export/*.parquet' --mldr mldr.parquet --buckets 64 --out catalogue
        """,
        option("--buckets", type=IntRange(1, 100_000), metavar="N", required=True, help="How many."),
        option(
            "--out",
            type=DIRECTORY,
            metavar="DIR",
            required=True,
            help="Directory to make. It is there as a whole at the end, or not at all.",
        ),
        option("--replace", is_flag=True, help="Remove what is in the directory."),
        source_option("Parquet files: directory, pattern or URL.  [default: the database]"),
        options.RATES,
        *options.DATABASE,
    ),
    Command(
        "shard",
        """Work bucket K of N, counted from 0: for whatever starts many processes.

        The forecasts are written first and a manifest last, each by a temporary name. A bucket that is there
        and whole, of the same data and options, is left alone; one that is half-written is done anew.

        \b
        Exit code: 0 done (or with --check: all are there), 1 failed, 2 wrong call, 4 the files do not
        fit, 5 another process works the bucket, 130 or 143 interrupted.

        \b
        Examples:
          forecaster shard 7/64 --source catalogue --sink forecasts
          forecaster shard --check --source catalogue --sink forecasts
        """,
        click.Argument(["bucket"], type=BUCKET, metavar="K/N", required=False),
        *options.PARAMETERS,
        option("--replace", is_flag=True, help="Work it also if its forecasts are there and whole."),
        option("--check", is_flag=True, help="Work nothing: list the buckets that are missing or wrong."),
        *options.FILES,
        *options.REPORTING,
    ),
    Command(
        "doctor",
        """Look at the configuration, the server, the tables and the data, and say how to mend what is wrong.

        Changes nothing. The exit code is that with which a run would fail, or 0.

        \b
        Example:
          forecaster doctor
        """,
        option(
            "--json", "as_json", is_flag=True, help="Print the findings as JSON, and nothing else, on stdout."
        ),
        *options.TRACK_PARAMETERS,
        *options.DATABASE,
    ),
    Command(
        "completion",
        """Print what makes the shell complete commands and options.

        \b
        Examples:
          forecaster completion bash >> ~/.bashrc
          forecaster completion zsh >> ~/.zshrc
          forecaster completion fish > ~/.config/fish/completions/forecaster.fish
        """,
        click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"])),
    ),
)
"""In the order of a first use; the program's help sorts them."""
