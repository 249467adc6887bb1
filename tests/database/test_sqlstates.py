"""Errors of the server that have a meaning of their own: timeouts of all kinds, and encodings that lack a character."""

import contextlib
import json
import urllib.parse

import pytest

from ..support.sample import BILLING, DAY
from ..support.worker import Worker


@pytest.mark.parametrize("setting, since", [("lock_timeout", 130000), ("transaction_timeout", 170000)])
def test_each_timeout_of_the_server_is_reported_as_one(setting, since, sample_database, start):
    """A table that a migration has locked. The older servers lack the newer setting: there it is not set."""
    database = sample_database
    if database.connection.server_version >= since:
        database.query(f"alter role callstats_worker in database {database.name} set {setting} = '300ms'")
    worker = start(Worker, database.url, CALLSTATS_STATEMENT_TIMEOUT_MS="2000")
    assert worker.ask("GET", DAY).body == BILLING
    with contextlib.closing(database.cluster.connect(database.name)) as migration:
        migration.autocommit = False
        with migration.cursor() as cursor:
            cursor.execute("lock table callstats.call in access exclusive mode")
        answer = worker.ask("GET", DAY)
        assert answer.status == 503 and "retry-after" not in answer.headers, worker.text()
        assert json.loads(answer.body)["error"] == "The query took too long."
    assert worker.ask("GET", DAY).body == BILLING


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "LATIN2", "WIN1252"])
def test_name_that_the_encoding_lacks_does_not_exist(encoding, cluster, start):
    database = cluster.database(template="template0", encoding=f"'{encoding}'", lc_collate="'C'", lc_ctype="'C'")
    database.connection.set_client_encoding("UTF8")
    database.query("""
        insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support');
        insert into callstats.folder (id, organization_id, name) values (1, 1, 'Anfragen für Kö');
        insert into callstats.call (organization_id, folder_id, started_at, duration_ms)
            values (1, 1, '2026-03-03 10:00', 1000)""")
    worker = start(Worker, database.url)
    known = urllib.parse.quote("Anfragen für Kö")
    (day,) = json.loads(worker.get(f"/stats/acme/support/{known}?daterange=20260303").body)
    assert day["folder"] == "Anfragen für Kö" and day["calls"] == 1
    unknown = urllib.parse.quote("訪問 Ω")
    for path, word in [
        (f"acme/support/{unknown}", "folder"),
        (f"acme/{unknown}", "organization"),
        (f"{unknown}/support", "company"),
        (f"acme/support/{known}{unknown}", "folder"),
    ]:
        answer = worker.get(f"/stats/{path}?daterange=20260303")
        assert answer.status == 404 and word in json.loads(answer.body)["error"].lower(), answer.body
    assert worker.get(f"/stats/acme/support/{unknown}", token="wrong").status == 401
    database.drop()
