"""Errors of the server that have a meaning of their own: timeouts of all kinds, and encodings that lack a character."""

import contextlib
import json
import urllib.parse

import pytest

from ..support.processes import wait_until
from ..support.sample import BILLING, DAY
from ..support.worker import Worker, cgi


@pytest.mark.parametrize("setting, since", [("lock_timeout", 130000), ("transaction_timeout", 170000)])
def test_each_timeout_of_the_server_is_reported_as_one(setting, since, sample_database, start):
    """A table that a migration has locked. The older servers lack the newer setting: there it is not set."""
    database = sample_database
    if database.connection.server_version >= since:
        database.query(f"alter role callstats_worker in database {database.name} set {setting} = '1s'")
    worker = start(Worker, database.url, CALLSTATS_STATEMENT_TIMEOUT_MS="2000")
    assert worker.ask("GET", DAY).body == BILLING
    with contextlib.closing(database.cluster.connect(database.name)) as migration:
        migration.autocommit = False
        with migration.cursor() as cursor:
            cursor.execute("lock table callstats.call in access exclusive mode")
        answer = worker.ask("GET", DAY)
        assert answer.status == 503 and "retry-after" not in answer.headers, worker.text()
        assert json.loads(answer.body)["error"] == "The query took too long."
    # transaction_timeout ends the connection, too.
    wait_until(lambda: worker.ask("GET", DAY).body == BILLING)


KNOWN, UNKNOWN = "Anfragen für Kö", "訪問 Ω"


@pytest.mark.parametrize(
    "encoding, known, unknown",
    [
        ("LATIN1", KNOWN, UNKNOWN),
        ("SQL_ASCII", KNOWN, UNKNOWN),
        ("LATIN2", KNOWN, UNKNOWN),
        ("WIN1252", KNOWN, UNKNOWN),
        ("KOI8R", "Отдел", UNKNOWN),
        ("EUC_JP", "訪問", "😀"),
        ("EUC_KR", "방문", "😀"),
    ],
)
def test_name_that_the_encoding_lacks_does_not_exist(encoding, known, unknown, cluster, start):
    database = cluster.database(template="template0", encoding=f"'{encoding}'", lc_collate="'C'", lc_ctype="'C'")
    database.connection.set_client_encoding("UTF8")
    database.query("""
        insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support');
        insert into callstats.folder (id, organization_id, name) values (1, 1, %s);
        insert into callstats.call (organization_id, folder_id, started_at, duration_ms)
            values (1, 1, '2026-03-03 10:00', 1000)""", known)
    worker = start(Worker, database.url)
    name, unknown = urllib.parse.quote(known), urllib.parse.quote(unknown)
    (day,) = json.loads(worker.get(f"/stats/acme/support/{name}?daterange=20260303").body)
    assert day["folder"] == known and day["calls"] == 1
    for path, word in [
        (f"acme/support/{unknown}", "folder"),
        (f"acme/{unknown}", "organization"),
        (f"{unknown}/support", "company"),
        (f"acme/support/{name}{unknown}", "folder"),
    ]:
        answer = worker.get(f"/stats/{path}?daterange=20260303")
        assert answer.status == 404 and word in json.loads(answer.body)["error"].lower(), answer.body
    assert worker.get(f"/stats/acme/support/{unknown}", token="wrong").status == 401
    database.drop()


@pytest.mark.parametrize(
    "setting",
    [
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "datestyle = 'German, DMY'",
        "bytea_output = 'escape'",
        "client_encoding = 'LATIN1'",
        "search_path = 'nowhere'",
        "standard_conforming_strings = off",
        "extra_float_digits = -15",
        "plan_cache_mode = 'force_custom_plan'",
        "timezone = 'Pacific/Kiritimati'",
        "client_min_messages = debug5",
    ],
)
def test_settings_of_the_role_change_no_answer(setting, sample_database, start):
    database = sample_database
    database.query(f"alter role callstats_worker in database {database.name} set {setting}")
    worker = start(Worker, database.url)
    assert worker.ask("GET", DAY).body == BILLING, worker.text()
    assert cgi(database.url, worker.folder, DAY)[1] == BILLING
    assert not [line for line in worker.text().splitlines() if " WARN " in line or " ERROR " in line]


def test_connections_that_the_server_closes_when_idle_are_replaced_unnoticed(sample_database, start):
    database = sample_database
    if database.connection.server_version >= 140000:
        database.query(f"alter role callstats_worker in database {database.name} set idle_session_timeout = '200ms'")
    worker = start(Worker, database.url)

    def backends():
        return database.value("select count(*) from pg_stat_activity "
                              "where usename = 'callstats_worker' and datname = current_database()")

    for _ in range(3):
        assert worker.ask("GET", DAY).body == BILLING, worker.text()
        if database.connection.server_version >= 140000:
            wait_until(lambda: backends() == 0, what="the server closed the connection")
    assert not [line for line in worker.text().splitlines() if " WARN " in line or " ERROR " in line]
