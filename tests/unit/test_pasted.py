"""Each address that people paste gets the fix for it, and no secret is shown."""

import traceback
from contextlib import suppress

import pytest

from forecaster.errors import InvalidOptionError
from forecaster.postgres.dsn import resolve

GOOD = "postgresql://me:S3cret@host.example.com:5432/music"


def refusal(url: str) -> tuple[str, str]:
    """What is said, and the hint."""
    with pytest.raises(InvalidOptionError) as caught:
        resolve(url, {})
    shown = "".join(traceback.format_exception(caught.value)) + f"{caught.value!r}{caught.value.hint}"
    assert "S3c" not in shown
    assert caught.value.hint
    return str(caught.value), caught.value.hint


@pytest.mark.parametrize(
    ("url", "said", "hint"),
    [
        (f'"{GOOD}"', "is in quotes", "leave them out"),
        (f"'{GOOD}'", "is in quotes", "leave them out"),
        (f"\u201c{GOOD}\u201d", "is in quotes", "leave them out"),
        (f"<{GOOD}>", "is in quotes", "leave them out"),
        (f"{GOOD}'", "is in quotes", "leave them out"),
        (f'DATABASE_URL="{GOOD}"', "is in quotes", "leave them out"),
        (f"DATABASE_URL={GOOD}", "begins with the name of a variable", "follows the ="),
        (f"export DATABASE_URL={GOOD}", "begins with the name of a variable", "follows the ="),
        (f"$env:DATABASE_URL = {GOOD}", "begins with the name of a variable", "follows the ="),
        (f"psql {GOOD}", "psql command", "give the URL alone"),
        (f"psql '{GOOD}'", "psql command", "give the URL alone"),
        (f"psql '{GOOD}' -c x", "psql command", "give the URL alone"),
        ("-h host -U me -W S3cret", "psql command", "give the URL alone"),
        (GOOD.replace("://", "+psycopg2://"), "SQLAlchemy", "leave out +psycopg2:"),
        (GOOD.replace("://", "+asyncpg://"), "SQLAlchemy", "leave out +asyncpg:"),
        (GOOD.replace("postgresql", "postgres+S3cret"), "SQLAlchemy", "leave out the +"),
        ("jdbc:postgresql://h/db?user=me&password=S3cret", "Java", "leave out jdbc:"),
        (GOOD.replace("postgresql", "mysql"), "is for mysql", "write postgresql://"),
        (GOOD.replace("postgresql", "mongodb+srv"), "is for mongodb+srv", "write postgresql://"),
        (GOOD.replace("postgresql", "pgsql"), "begins with pgsql://", "write postgresql://"),
        (GOOD.replace("postgresql", "POSTGRESQL"), "does not begin with", "small letters"),
        (GOOD.replace("://", ":/"), "does not begin with", "two slashes"),
        (GOOD.removeprefix("postgresql://"), "does not begin with", "write postgresql://"),
        ("https://console.neon.tech/app?token=S3cret", "address of a web page", "connection string"),
        ('{"username": "me", "password": "S3cret"}', "given as JSON", "write postgresql://"),
        ("Server=h;Port=5432;User Id=me;Password=S3cret;", "given as keywords", "write postgresql://"),
        ("postgresql://me:S3cret@one:1,two:2/db", "several hosts", "primary server"),
        ("postgresql://me:S3c ret@h/db", "a blank or a line end", "%20"),
        ("postgresql://me:S3cret@h.exam\nple.com/db", "a blank or a line end", "copied by mistake"),
        ("postgresql://me:S3c@ret@h/db", "cannot be parsed", "@ is %40"),
        ("postgresql://me:S3c/ret@h/db", "cannot be parsed", "/ is %2F"),
        ("postgresql://me:S3c#ret@h/db", "cannot be parsed", "# is %23"),
        (f"{GOOD}/", "ends with a slash", "leave it out"),
        (f"{GOOD}\u200b", "an invisible character", "type by hand"),
        (f"\ufeff{GOOD}", "an invisible character", "type by hand"),
        ("postgresql://postgres:[YOUR-PASSWORD]@db.supabase.co/postgres", "placeholder", "percent-encoded"),
        ("postgresql://postgres:[S3cret!]@db.supabase.co/postgres", "placeholder", "percent-encoded"),
        ("postgresql://<user>:S3cret@h/db", "placeholder", "percent-encoded"),
        ("postgresql://me:${DB_PASSWORD}@h/db", "was not replaced", "write the value"),
        ("postgresql://me:{{ password }}@h/db", "was not replaced", "write the value"),
        ("postgresql://$USER:$PASS@h/db", "was not replaced", "write the value"),
        ("postgresql://me:S3cret@%(HOST)s/db", "was not replaced", "write the value"),
        ("${DATABASE_URL:-S3cret}", "was not replaced", "write the value"),
        ("$DATABASE_URL", "was not replaced", "outside of single quotes"),
        ("$env:database_url", "was not replaced", "write the value"),
        ("%DATABASE_URL%", "was not replaced", "write the value"),
        ("%(DB_URL)s", "was not replaced", "write the value"),
        ("{{ database.url }}", "was not replaced", "write the value"),
        ("DATABASE_URL=$(cat S3cret)", "was not replaced", "write the value"),
        ("postgresql://me:S3cret@127.0.0.1:port/db", "port in the database URL is not a number", "65535"),
        ("postgresql://me:S3cret@h:54615x/db", "port in the database URL is not a number", "65535"),
        ("postgresql://me:S3cret@[::1/db", "lacks a bracket", "[::1]:5432"),
        ("postgresql://me:S3cret@::1]:5432/db", "lacks a bracket", "[::1]:5432"),
        ("postgresql://me:S3cret@::1/db", "lacks a bracket", "[::1]:5432"),
        ("postgresql://USER:PASSWORD@HOST:PORT/DATABASE", "placeholder", "percent-encoded"),
        ("postgresql://me:************@h/db", "is hidden", "show the password"),
        (f"{GOOD}?pgbouncer=true", "not supported: pgbouncer", "leave pgbouncer out"),
        (f"{GOOD}?schema=public", "not supported: schema", "with --schema"),
        (f"{GOOD}?channel_binding=require", "not supported: channel_binding", "keep sslmode=require"),
        (f"{GOOD}?ssl=true", "not supported: ssl", "write sslmode=require"),
        (f"{GOOD}?connection_limit=5", "not supported: connection_limit", "leave them out"),
        (f"{GOOD}?sslmode=no-verify", "sslmode is 'no-verify'", "write sslmode=require"),
        (f"{GOOD}?sslmode=verify-full", "sslmode=verify-full is not supported", "sslrootcert"),
    ],
)  # fmt: skip
def test_the_fix_is_named(url: str, said: str, hint: str) -> None:
    message, fix = refusal(url)
    assert said in message
    assert hint in fix


@pytest.mark.parametrize(
    "url",
    [
        GOOD,
        f" {GOOD}\n",
        f"{GOOD}\r\n",
        GOOD.replace("postgresql", "postgres"),  # as Heroku gives it
        f"{GOOD}?sslmode=require",
        GOOD.replace("host.example.com", "[::1]"),
        GOOD.replace("S3cret", "%5BYOUR-PASSWORD%5D"),
        GOOD.replace("S3cret", "a$b*c'd"),
        GOOD.replace("S3cret", "$ecret"),
        GOOD.replace("S3cret", "%2A%2A%2A%2A"),
        GOOD.replace("music", "your_database"),
    ],
)
def test_what_is_right_is_taken(url: str) -> None:
    assert resolve(url, {})


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "seed", ["a", " ", "=", "://", "[", "postgresql://", "@", ":a@", "{", "%(a", "\n", ":*", "'"]
)
def test_no_address_takes_long(seed: str) -> None:
    for url in (seed * 100_000, f"postgresql://{seed * 100_000}"):
        with suppress(InvalidOptionError):
            resolve(f"x{url}", {})
            resolve(url, {"PGHOST": "h"})
