"""Servers that let nobody in, that are read-only, or that others can listen to, as `doctor` finds them."""

from dataclasses import replace

from forecaster.postgres.dsn import Dsn
from tests import sql
from tests.conftest import BINARIES, short_directory
from tests.examinations import examined, paste, the
from tests.faults import PASSWORD
from tests.tls import asked, make_authority, needs_tls, on_the_network


def test_a_server_that_lets_nobody_in(embedded_database: Dsn) -> None:
    guarded = replace(embedded_database, password=PASSWORD)
    for dsn, said in (
        (replace(guarded, user="stranger"), 'role "stranger" does not exist'),
        (replace(guarded, port=1), "No such file or directory"),
        (replace(guarded, dbname="elsewhere"), 'database "elsewhere" does not exist'),
    ):
        result = examined(dsn)
        finding = the("connection", result)
        assert (result.exit_code, finding.exit_code) == (3, 3)
        assert said in finding.found
        assert f"pg_isready -h {guarded.host} -p {dsn.port}" in (finding.fix or "")
        # What takes no connection is there.
        assert [f.about for f in result.findings] == ["configuration", "versions", "connection"]
        assert f"{dsn}" in result.findings[0].found
        assert result.versions.keys() >= {"python", "polars", "connectorx"}


def test_who_made_the_server_read_only(embedded_database: Dsn) -> None:
    dsn = embedded_database
    sql.run(dsn, f"ALTER ROLE {dsn.user} IN DATABASE {dsn.dbname} SET default_transaction_read_only = on")
    client = replace(dsn, parameters=(("options", "-c default_transaction_read_only=on"),))
    assert "PGOPTIONS" in (the("read-only", examined(client)).fix or "")
    paste(dsn, the("read-only", examined(dsn)).fix)
    assert sql.rows(dsn, "SELECT current_setting('default_transaction_read_only')") == [("off",)]


@needs_tls
def test_a_connection_that_others_cannot_read() -> None:
    binaries = BINARIES["postgresql-15"]
    assert binaries
    with short_directory() as directory:
        authority = make_authority(directory, "authority")
        with on_the_network(directory, binaries, authority) as dsn:
            for parameters, verified in (({}, "is not"), ({"sslrootcert": authority}, "is")):
                result = examined(asked(dsn, sslmode="require", **parameters))
                [found] = [f.found for f in result.findings if f.about == "encryption"]
                assert found == f"TLSv1.3; the server's certificate {verified} verified"
            # Another way to this machine, which does not look like one.
            finding = the("encryption", examined(replace(asked(dsn, sslmode="disable"), host="0.0.0.0")))
            assert finding.fix == "set PGSSLMODE=require, or add ?sslmode=require to the URL"
