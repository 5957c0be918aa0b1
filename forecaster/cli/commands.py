"""Every command: its help, arguments and options. Its body is in the file of its name."""

import click

from forecaster.cli import options
from forecaster.cli.command import Command
from forecaster.cli.options import (
    BUCKET,
    DAY,
    DAYS,
    DIRECTORY,
    FILE,
    FILE_OR_DIRECTORY,
    ID,
    FloatRange,
    IntRange,
    data_dir_option,
    option,
    out_option,
    source_option,
    track_option,
)

_ENGINE = (
    option(
        "--engine",
        type=click.Choice(["local", "dask"]),
        default="local",
        show_default=True,
        help="Execution engine: this process, or Dask with worker processes.",
    ),
    option(
        "--scheduler",
        metavar="ADDRESS",
        help="Dask's scheduler, as tcp://HOST:PORT.",
        show_default="a local cluster, one worker per core",
    ),
)
"""The fields of `cli.run.Spread`."""

_CONFIGURED = (
    Command(
        "demo",
        """Try it on a sample catalogue in an embedded server.

        Load the sample catalogue into the schema "demo", run, and dump one track. Repeating the command
        reuses what exists. Another number of --tracks replaces the sample catalogue and its forecasts.

        \b
        Example:
          forecaster demo --tracks 8459
        """,
        option(
            "--tracks",
            type=IntRange(1, 100_000),
            metavar="N",
            help="Number of tracks in the sample catalogue.",
            show_default="300",
        ),
        data_dir_option("always used"),
        out_option("CSV or Parquet file for the one track.", default="track_<id>_forecast.csv"),
    ),
    Command(
        "init",
        """Create the tables that are missing.

        Existing tables stay as they are, with two exceptions: a forecast table without a unique key on
        (cm_track_id, month) gets one, if its rows and your privileges allow it; and tables of the history
        that an older version made are brought up to date, without losing a row.

        \b
        Example:
          forecaster init --database-url postgresql://me@localhost/music
        """,
        *options.DATABASE,
    ),
    Command(
        "load",
        """Load streams, decay rates and listeners from CSV or Parquet.

        Load all rows or none. Each path is a file, or a directory of such files, which are loaded together.

        STREAMS has the columns cm_track_id, cm_artist_id, date, daily_streams and, if known,
        days_from_release. Or it is the export of one track from a music-analytics service (Date, Value,
        Days from release; or date, streams): then --track-id and --artist-id name the track and its artist.
        An export of listeners has the columns Date and Monthly Listeners.

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
            help="File with cm_artist_id, date and monthly_listeners, or the export of one artist.",
        ),
        track_option("Track of an exported STREAMS file, which does not name it."),
        option("--artist-id", type=ID, metavar="ID", help="Artist of an exported file."),
        option(
            "--new-only",
            is_flag=True,
            help="Load only days that the table does not have; leave existing days unchanged.",
        ),
        *options.DATABASE,
    ),
    Command(
        "mldr",
        """Compute and store the decay rates (MLDR) of artists.

        Process every artist that has listeners and no stored MLDR (Monthly Listener Decay Rate).

        \b
        Exit code: 0 done (skipped artists are not a failure), 1 failed, 2 wrong call,
        3 no connection, 4 the tables do not fit, 5 another run holds the lock,
        130 or 143 interrupted.

        \b
        Examples:
          forecaster mldr
          forecaster mldr --replace --artist-id 7
        """,
        option(
            "--artist-id",
            "ids",
            type=ID,
            metavar="ID",
            multiple=True,
            help="Process only this artist, if it has no MLDR.",
        ),
        option("--replace", is_flag=True, help="Also process artists that have an MLDR, and replace it."),
        option("--dry-run", is_flag=True, help="Do everything except write."),
        *options.REPORTING,
        *options.DATABASE,
        connects=True,
    ),
    Command(
        "calibrate",
        """Learn from the catalogue itself how its streams fall, and how sure forecasts are.

        Compute how fast the streams of young and old tracks fall, and forecast from earlier days to see how
        far off each model was. Store it as a record that never changes. `run --model calibrated` forecasts
        with it, and every run takes its intervals from it. Days after the as-of day have no influence.

        \b
        Examples:
          forecaster calibrate
          forecaster calibrate --as-of 2026-01-31 --rows shipped
          forecaster calibrate --list
          forecaster calibrate --show 2026-01-31-0a1b2c3d4e --export calibration.json
          forecaster calibrate --source catalogue --export calibration.json --engine dask
        """,
        option(
            "--as-of",
            type=DAY,
            metavar="DATE",
            help="Last day that counts.",
            show_default="the newest day of the catalogue",
        ),
        option("--cutoff", type=DAY, metavar="DATE", help="Calibrate from the days before DATE."),
        option(
            "--rows",
            type=click.Choice(["shipped", "fitted", "auto"]),
            default="auto",
            show_default=True,
            help="Rows of the model: the shipped ones, with one fitted to this catalogue, or with it if it is"
            " better on days held out in time.",
        ),
        options.AGE_FROM,
        option("--list", "listed", is_flag=True, help="List the stored calibrations."),
        option("--show", "shown", metavar="ID|FILE", help="Show a stored calibration, or that of a file."),
        option("--export", type=FILE, metavar="FILE.json", help="Also write the calibration to a file."),
        option("--import", "imported", type=FILE, metavar="FILE.json", help="Store that of a file."),
        source_option("Catalogue in Parquet files: directory, pattern or URL.", default="the database"),
        options.RATES,
        *_ENGINE,
        option("--json", "as_json", is_flag=True, help="Print the record as JSON, instead of tables."),
        *options.DATABASE,
    ),
    Command(
        "run",
        """Forecast every pending track and store the result.

        A track is pending if it has streams and no forecast; with --refresh, also if its forecast is stale:
        if its streams or its artist's decay rate have changed since. With --source and --sink the catalogue
        is read from Parquet files and no database is used: all tracks are forecast, except those in buckets
        that are already complete and whose source has not changed.

        \b
        Exit code: 0 done (skipped tracks are not a failure), 1 failed, 2 wrong call,
        3 no connection, 4 the tables do not fit, 5 another run holds the lock,
        6 stored, but implausible (with --strict), 130 or 143 interrupted.

        \b
        Examples:
          forecaster run
          forecaster run --refresh
          forecaster run --model calibrated
          forecaster run --horizon 400 --influence 1000 --limit 100 --dry-run
          forecaster run --replace --track-id 42 --report report.json
          forecaster run --source catalogue --sink forecasts --engine dask
        """,
        *options.PARAMETERS,
        option(
            "--track-id",
            "ids",
            type=ID,
            metavar="ID",
            multiple=True,
            help="Process only this track, if it is pending.",
        ),
        option("--limit", type=IntRange(1), metavar="N", help="Process at most N pending tracks."),
        option("--replace", is_flag=True, help="Also process tracks that have a forecast, and replace it."),
        option(
            "--refresh",
            is_flag=True,
            help="Also process tracks whose data has changed since their forecast, and replace it.",
        ),
        option("--dry-run", is_flag=True, help="Do everything except write."),
        *options.MODEL,
        *options.FILES,
        *_ENGINE,
        *options.PLAUSIBILITY,
        *options.REPORTING,
        *options.DATABASE,
        connects=True,
    ),
    Command(
        "total",
        """Add up the stored forecasts, and say how sure the total is.

        Print the total of each month, and that of all months up to it, with the ranges in which 80 and 95 %
        of totals come to lie. The errors of tracks go together in part, so these are not sums of the
        tracks' ranges. Without options: the whole catalogue.

        \b
        Examples:
          forecaster total
          forecaster total --artist-id 7 --horizon 12
          forecaster total --ids bought.csv --out bought_total.csv
          forecaster total --where 'time_used<6' --where 'forecasted_value>=1000'
        """,
        option(
            "--artist-id",
            "artist_ids",
            type=ID,
            metavar="ID",
            multiple=True,
            help="Add up only tracks of this artist.",
        ),
        option(
            "--track-id", "track_ids", type=ID, metavar="ID", multiple=True, help="Add up only this track."
        ),
        option(
            "--ids",
            "ids_file",
            type=FILE,
            metavar="FILE",
            help="Add up only the tracks in the column cm_track_id of a CSV or Parquet file.",
        ),
        option(
            "--where",
            "conditions",
            metavar="CONDITION",
            multiple=True,
            help="Add up only tracks whose forecast of month 1 meets this: one of the columns cm_track_id, "
            "cm_artist_id, segment_used, time_used (months since release) and forecasted_value, then =, !=, "
            "<, <=, > or >=, then a number; without blanks.",
        ),
        option(
            "--horizon",
            type=IntRange(1, 400),
            metavar="N",
            help="Add up months 1 to N.",
            show_default="the months that every track has",
        ),
        option("--exact", is_flag=True, help="Print whole numbers, not three digits."),
        out_option("Write all months as CSV or Parquet."),
        option("--json", "as_json", is_flag=True, help="Print all months as JSON, instead of a table."),
        *options.DATABASE,
    ),
    Command(
        "dump",
        """Forecast one track into a file and show how it is computed.

        Print every number behind the forecast. Store nothing in the database.

        \b
        Example:
          forecaster dump --track-id 42 --out track_42.parquet
        """,
        track_option("Track to forecast.", default="the first pending track that can be forecast"),
        out_option("CSV or Parquet file.", default="track_<id>_forecast.csv"),
        *options.PARAMETERS,
        *options.MODEL_OF_TRACK,
        *options.DATABASE,
    ),
    Command(
        "plot",
        """Draw one track: history, forecast, segments and base curve.

        A file needs the extra "plot"; a chart in the terminal needs the extra "term".

        \b
        Examples:
          forecaster plot --track-id 42
          forecaster plot --track-id 42 --out track_42.html
        """,
        track_option("Track to draw.", required=True),
        out_option("HTML, PNG or SVG file.", default="a chart in the terminal"),
        *options.PARAMETERS,
        *options.MODEL_OF_TRACK,
        *options.DATABASE,
    ),
    Command(
        "report",
        """Draw the stored catalogue as one HTML page.

        The page works offline. It shows totals per month, segments and influence ranges, skipped tracks by
        reason, the largest tracks, and a table of all tracks with a chart of each.

        \b
        Example:
          forecaster report --out report.html
        """,
        out_option("HTML file.", required=True),
        options.AGE_FROM,
        *options.DATABASE,
    ),
    Command(
        "export",
        """Write the stored forecasts in the format of other tools.

        nixtla: the columns unique_id, ds, y, cutoff and h, and the ends of the intervals of 80 and 95 %:
        y-lo-80, y-hi-80, y-lo-95 and y-hi-95. Month h covers the 30 days up to ds. The cutoff is the day
        before the first of these days.

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
            help="Columns of the file.",
        ),
        out_option("CSV or Parquet file.", required=True),
        option(
            "--as-of",
            type=DAY,
            metavar="DATE",
            help="Value of --as-of with which the forecasts were made.",
            show_default="the last date that each forecast could know",
        ),
        *options.DATABASE,
    ),
    Command(
        "evaluate",
        """Compare forecasts with the streams that came after them.

        Score the forecasts of all runs, from each track's as-of date on. With --cutoff, score forecasts
        made now from the days before the cutoff; with --since, from many days. Only complete months of 30
        days count.

        \b
        Examples:
          forecaster evaluate --by month --by run
          forecaster evaluate --since 2023-01-01 --every 30 --horizon 6
          forecaster evaluate --runs 2024-01-01..2024-01-31 --horizon 1
          forecaster evaluate --cutoff 2023-01-01 --cutoff 2023-07-01 --json
        """,
        option(
            "--actuals",
            metavar="TABLE|SCHEMA.TABLE|FILE",
            help="Later daily streams of the same tracks: a table with cm_track_id, date and daily_streams, "
            "or a CSV or Parquet file that also has cm_artist_id. Days before a track's as-of date or cutoff "
            "come from the streams table.",
            show_default="the streams table",
        ),
        option(
            "--run",
            "run_ids",
            type=ID,
            metavar="ID",
            multiple=True,
            help="Score only the forecasts of this run. With --runs, those of both.",
        ),
        option(
            "--runs",
            "run_days",
            type=DAYS,
            metavar="SINCE..UNTIL",
            help="Score only the forecasts of the runs that began on these days (in UTC), the last included, "
            "and of those that --run names.",
        ),
        option(
            "--cutoff",
            "cutoffs",
            type=DAY,
            metavar="DATE",
            multiple=True,
            help="Score forecasts made now from the days before DATE, instead of those of runs.",
        ),
        option(
            "--model",
            type=click.Choice(["production", "calibrated", "auto"]),
            default="production",
            show_default=True,
            help="With --cutoff or --since: the model. A calibrated one is calibrated on the days before the "
            "cutoff, and scored beside the production model; auto is the one that did best before.",
        ),
        options.LEVEL,
        option(
            "--since",
            type=DAY,
            metavar="DATE",
            help="Rolling origins: a cutoff on DATE, and one every --every days until the last after which a "
            "month is over.",
        ),
        option(
            "--every",
            type=IntRange(1, 3650),
            metavar="DAYS",
            help="Days from one cutoff of --since to the next.",
            show_default="30",
        ),
        option(
            "--later-rates",
            is_flag=True,
            help="Where an MLDR cannot be computed at a cutoff, use the stored one, which may "
            "depend on later days.",
        ),
        option(
            "--mldr",
            metavar="VALUE|FILE",
            help="What if: with --cutoff or --since, one MLDR for all artists, or a CSV or Parquet file with "
            "cm_artist_id and mldr, instead of those that were known.",
        ),
        option(
            "--track-id",
            "track_ids",
            type=ID,
            metavar="ID",
            multiple=True,
            help="Score only this track. The pooled baseline then covers only the chosen tracks.",
        ),
        option(
            "--horizon",
            shared=True,
            type=IntRange(1, 400),
            metavar="N",
            help="Months to forecast, or months of the stored forecasts to score.",
            show_default="24, or all that are stored",
        ),
        options.AGE_FROM,
        option(
            "--as-of",
            type=DAY,
            metavar="DATE",
            help="Last day that the stored forecasts knew of which no run recorded it. A row that was "
            "restated later counts as later. Needed if created_at is not the time when a row was stored.",
            show_default="each track's last date among the rows that existed, by created_at, when its "
            "forecast was stored",
        ),
        option(
            "--influence",
            shared=True,
            type=FloatRange(0),
            metavar="VALUE",
            help="With --cutoff: one influence for all tracks.",
            show_default="10 x streams of the last 30 records",
        ),
        option(
            "--theta",
            is_flag=True,
            help="Score two more baselines: Theta, and a mean of three exponential smoothings. They need the "
            "extra theta.",
        ),
        option(
            "--by",
            type=click.Choice([*options.BY, "all"]),
            multiple=True,
            help="Also print the scores by this, and the formulas.",
        ),
        out_option("Write all scores as CSV or Parquet, and every month of every track to NAME_months."),
        option("--json", "as_json", is_flag=True, help="Print all scores as JSON, instead of tables."),
        option(
            "--page",
            type=FILE,
            metavar="FILE.html",
            help="Write the page of the catalogue (see report), with these scores.",
        ),
        *options.DATABASE,
    ),
    Command(
        "history",
        """List the runs, or the forecasts of one track over time.

        Each run leaves a record, and a row for each track that it looked at. With --track-id, show these rows
        beside the streams that came: of the months of 30 days that are over. With --prune, remove old rows;
        the newest forecast of each track stays, and so does the record of each run.

        \b
        Examples:
          forecaster history
          forecaster history --track-id 42 --last 100 --out track_42.csv
          forecaster history --prune --keep 400 --dry-run
        """,
        track_option("Show the forecasts of this track.", default="list the runs"),
        option(
            "--last",
            type=IntRange(1, 1_000_000),
            metavar="N",
            default=20,
            show_default=True,
            help="Show the last N runs.",
        ),
        option("--prune", is_flag=True, help="Remove the rows of older runs that newer ones supersede."),
        option(
            "--keep",
            type=IntRange(1, 1_000_000),
            metavar="N",
            help="With --prune: the last N runs keep their rows.",
        ),
        option("--dry-run", is_flag=True, help="With --prune: only say what would be removed."),
        out_option("Write the runs, or the track's forecasts by run and month, as CSV or Parquet."),
        option("--json", "as_json", is_flag=True, help="Print everything as JSON, instead of a table."),
        *options.DATABASE,
    ),
    Command(
        "compare",
        """Say what moved the total from one run to another, and why.

        Compare the forecast that each track had after one RUN with that after another, both given by id or
        log id. By default, compare the last two complete runs. Give the difference by cause, and the twenty
        tracks that moved most.

        \b
        Examples:
          forecaster compare
          forecaster compare 17 24 --out moved.csv
        """,
        click.Argument(["runs"], metavar="RUN RUN", nargs=-1, required=False),
        out_option("Write both totals of every track, with the cause, as CSV or Parquet."),
        option("--json", "as_json", is_flag=True, help="Print everything as JSON, instead of tables."),
        *options.DATABASE,
    ),
    Command(
        "prepare",
        """Lay a catalogue out as Parquet files in N buckets.

        Each bucket can then be forecast separately. The rows are streamed, so the catalogue may be larger
        than memory. From a database it reads the tables of streams and of decay rates.

        \b
        Examples:
          forecaster prepare --buckets 64 --out catalogue
          forecaster prepare --source 'export/*.parquet' --mldr mldr.parquet --buckets 64 --out catalogue
        """,
        option("--buckets", type=IntRange(1, 100_000), metavar="N", required=True, help="Number of buckets."),
        option(
            "--out",
            type=DIRECTORY,
            metavar="DIR",
            required=True,
            help="Directory to create. It appears when it is complete, or not at all.",
        ),
        option("--replace", is_flag=True, help="Replace the catalogue in the directory."),
        source_option("Parquet files: directory, pattern or URL.", default="the database"),
        options.RATES,
        *options.DATABASE,
    ),
    Command(
        "shard",
        """Forecast one bucket of a catalogue in Parquet files.

        K/N is bucket K of N; K counts from 0. Any scheduler can start one process per bucket. The forecasts
        are written first and a manifest last, each under a temporary name. A bucket that is complete, with
        the same data and options, is skipped; an incomplete one is forecast again.

        \b
        Exit code: 0 done (with --check: all buckets are complete), 1 failed, 2 wrong call,
        4 the files do not fit, 5 another process holds the bucket, 6 stored, but implausible (with
        --strict), 130 or 143 interrupted.

        \b
        Examples:
          forecaster shard 7/64 --source catalogue --sink forecasts
          forecaster shard --check --source catalogue --sink forecasts
        """,
        click.Argument(["bucket"], type=BUCKET, metavar="K/N", required=False),
        *options.PARAMETERS,
        option("--replace", is_flag=True, help="Forecast the bucket even if it is complete."),
        option("--check", is_flag=True, help="Only list the buckets that are missing or wrong."),
        *options.MODEL,
        *options.FILES,
        *options.PLAUSIBILITY,
        *options.REPORTING,
    ),
    Command(
        "doctor",
        """Check what a run needs and suggest a fix for each problem.

        Check the configuration, the server, the tables and the data. Change nothing. The exit code is the
        one with which a run would fail, or 0.

        \b
        Example:
          forecaster doctor
        """,
        option("--json", "as_json", is_flag=True, help="Print the findings as JSON, instead of text."),
        *options.TRACK_PARAMETERS,
        *options.PLAUSIBILITY,
        *options.DATABASE,
    ),
)
"""The commands that `config` explains."""

COMMANDS = (
    *_CONFIGURED,
    Command(
        "config",
        """Show the value of each option that counts, and where it comes from.

        A value comes from an environment variable, from the configuration file, or is the default. With
        COMMAND, list all its options. Without it, list what is set, and for which commands. No database is
        needed, and secrets are masked.

        \b
        Examples:
          forecaster config
          forecaster config run --profile night
        """,
        click.Argument(
            ["command"],
            type=click.Choice([f"{command.name}" for command in _CONFIGURED]),
            metavar="[COMMAND]",
            required=False,
        ),
        option("--json", "as_json", is_flag=True, help="Print all options as JSON, instead of a table."),
    ),
    Command(
        "completion",
        """Print the script that completes words in a shell.

        \b
        Examples:
          forecaster completion bash >> ~/.bashrc
          forecaster completion zsh >> ~/.zshrc
          forecaster completion fish > ~/.config/fish/completions/forecaster.fish
        """,
        click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"])),
    ),
)
"""All commands, in the order in which a new user needs them. The program's help sorts them by name."""
