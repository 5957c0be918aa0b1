"""What `init` makes, as the server says it: every column, constraint and index."""

from forecaster.postgres.dsn import Dsn
from tests import sql
from tests.tables import initialise

# Written down from the statements that made them before there was one object per table.
MADE = """
backtest_artist_daily_training_data
  id bigint NOT NULL IDENTITY d
  cm_artist_id bigint NOT NULL
  date date NOT NULL
  monthly_listeners bigint
  created_at timestamp with time zone NOT NULL DEFAULT now()
  PRIMARY KEY (id)
  UNIQUE (cm_artist_id, date)
backtest_artist_mldr
  id bigint NOT NULL IDENTITY d
  cm_artist_id bigint NOT NULL
  mldr double precision
  created_at timestamp with time zone NOT NULL DEFAULT now()
  backtest_artist_daily_training_data_id bigint
  PRIMARY KEY (id)
  UNIQUE (cm_artist_id, created_at, id)
backtest_forecast_calibration
  id text NOT NULL
  created_at timestamp with time zone NOT NULL
  as_of date NOT NULL
  form integer NOT NULL
  tracks bigint NOT NULL
  origins bigint NOT NULL
  loss_before double precision
  loss_after double precision
  checksum text NOT NULL
  record text NOT NULL
  UNIQUE (id)
backtest_forecast_run
  id bigint NOT NULL IDENTITY d
  log_id text NOT NULL
  started_at timestamp with time zone NOT NULL
  finished_at timestamp with time zone
  program text NOT NULL
  model text NOT NULL
  parameters jsonb NOT NULL DEFAULT '{}'::jsonb
  horizon integer NOT NULL
  as_of_from date
  as_of_to date
  tracks bigint
  rows bigint
  skipped jsonb NOT NULL DEFAULT '{}'::jsonb
  refused bigint
  total double precision
  outcome text NOT NULL
  error text
  host text NOT NULL
  PRIMARY KEY (id)
  UNIQUE (started_at)
backtest_schema_version
  number integer NOT NULL
  what text NOT NULL
  program text NOT NULL
  applied_at timestamp with time zone NOT NULL DEFAULT now()
  UNIQUE (number)
backtest_track_daily_training_data
  id bigint NOT NULL IDENTITY d
  cm_track_id bigint NOT NULL
  cm_artist_id bigint NOT NULL
  date date NOT NULL
  daily_streams bigint
  days_from_release integer
  created_at timestamp with time zone NOT NULL DEFAULT now()
  PRIMARY KEY (id)
  UNIQUE (cm_track_id, date) INCLUDE (days_from_release, daily_streams, cm_artist_id, id)
backtest_track_streams_forecast
  id bigint NOT NULL IDENTITY d
  month smallint NOT NULL
  forecasted_value bigint NOT NULL
  segment_used smallint NOT NULL
  time_used integer NOT NULL
  cm_track_id bigint NOT NULL
  cm_artist_id bigint NOT NULL
  training_data_id bigint NOT NULL
  created_at timestamp with time zone NOT NULL
  CHECK ((forecasted_value >= 0))
  CHECK ((month >= 1))
  CHECK (((segment_used >= 1) AND (segment_used <= 12)))
  PRIMARY KEY (id)
  UNIQUE (cm_track_id, month)
backtest_track_streams_forecast_history
  run_id bigint NOT NULL
  cm_track_id bigint NOT NULL
  as_of date
  last_date date
  mldr double precision
  reason text
  months double precision[]
  UNIQUE (run_id, cm_track_id)
backtest_track_streams_forecast_interval
  cm_track_id bigint NOT NULL
  created_at timestamp with time zone NOT NULL
  calibration text
  q025 real[] NOT NULL
  q10 real[] NOT NULL
  q50 real[] NOT NULL
  q90 real[] NOT NULL
  q975 real[] NOT NULL
  UNIQUE (cm_track_id)
"""
PARTIAL = "(cm_track_id) WHERE ((daily_streams IS NULL) OR (NOT isfinite(date)))"
COLUMNS = """
    SELECT c.relname::text, concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
           CASE WHEN a.attnotnull THEN 'NOT NULL' END, 'IDENTITY ' || nullif(a.attidentity::text, ''),
           'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid))
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'made'::regnamespace AND c.relkind = 'r' ORDER BY c.relname, a.attnum"""
CONSTRAINTS = """
    SELECT c.relname::text, pg_get_constraintdef(k.oid)
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    WHERE k.connamespace = 'made'::regnamespace AND k.contype <> 'n'
    ORDER BY c.relname, k.contype, k.conname"""
INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'made' AND indexdef LIKE '% WHERE %'"


def test_columns_and_constraints(database: Dsn) -> None:
    initialise(database, "made")
    tables: dict[str, list[str]] = {}
    for table, line in [*sql.rows(database, COLUMNS), *sql.rows(database, CONSTRAINTS)]:
        tables.setdefault(table, []).append(f"  {line}")
    assert [line for table, lines in tables.items() for line in (table, *lines)] == MADE.strip().splitlines()


def test_the_index_of_what_is_left_out(database: Dsn) -> None:
    initialise(database, "made")
    [(index,)] = sql.rows(database, INDEXES)
    assert index.endswith(PARTIAL)


def test_the_index_of_what_is_new(database: Dsn) -> None:
    """Two instants per 16 pages; and pages are marked as visible to all soon after rows were added."""
    initialise(database, "made")
    [(index,)] = sql.rows(database, "SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '% brin %'")
    assert index.endswith("USING brin (created_at) WITH (pages_per_range='16')")
    options = "SELECT array_to_string(reloptions, ' ') FROM pg_class WHERE relname = $1 AND relkind = 'r'"
    [(option,)] = sql.rows(database, options, "backtest_track_daily_training_data")
    assert option == "autovacuum_vacuum_insert_scale_factor=0.01"
