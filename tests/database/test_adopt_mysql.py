"""A table of Asterisk in MariaDB, adopted through mysql_fdw: the range of days is the foreign server's to read."""
import subprocess

import pytest

from ..support.processes import Folder, Process, as_user, free_port, wait_until
from ..support.worker import Worker
from .test_adopt import adopt, body


class MariaDb:
    def __init__(self):
        self.folder, self.port = Folder("mariadb"), free_port()
        subprocess.run(["mariadb-install-db", "--no-defaults", f"--datadir={self.folder / 'data'}", "--skip-test-db",
                        "--auth-root-authentication-method=normal"],
                       check=True, capture_output=True, cwd="/", **as_user())
        self.process = Process(["/usr/sbin/mariadbd", "--no-defaults", f"--datadir={self.folder / 'data'}",
                                f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}",
                                f"--port={self.port}", "--bind-address=127.0.0.1", "--general-log=1",
                                f"--general-log-file={self.folder / 'general.log'}"], self.folder / "log")
        wait_until(lambda: self.run("select 1").returncode == 0, 60, "MariaDB answers")

    def run(self, statements):
        command = ["mariadb", "--no-defaults", f"--socket={self.folder / 'socket'}", "--user=root", "-e", statements]
        return subprocess.run(command, capture_output=True, text=True)

    def query(self, statements):
        done = self.run(statements)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def statements(self):
        """What it was asked, as its log has it."""
        return [line.split("\t")[-1] for line in (self.folder / "general.log").read_text().splitlines()
                if "Execute\t" in line]

    def remove(self):
        self.process.stop()
        self.folder.remove()


@pytest.fixture
def mariadb():
    server = MariaDb()
    yield server
    server.remove()


@pytest.mark.slow
def test_asterisk_in_mariadb_is_asked_for_the_days_alone(database, start, mariadb):
    mariadb.query("""create database asterisk; use asterisk;
        create table cdr (calldate datetime not null, src varchar(80), dst varchar(80), dcontext varchar(80),
            channel varchar(80), dstchannel varchar(80), lastapp varchar(80), duration int, billsec int,
            disposition varchar(45), accountcode varchar(20), uniqueid varchar(32), linkedid varchar(32),
            key (calldate));
        insert into cdr select date_add('2026-01-01', interval seq * 7 minute), '100', '200', 'queue',
            'SIP/100-0001', 'SIP/200-0002', 'Dial', 60, 50, 'ANSWERED', 'acme', concat('u', seq), concat('u', seq)
            from seq_1_to_20000;
        create user callstats@127.0.0.1 identified by 'secret';
        grant select on asterisk.cdr to callstats@127.0.0.1""")
    database.query(f"""create extension mysql_fdw;
        create server pbx foreign data wrapper mysql_fdw options (host '127.0.0.1', port '{mariadb.port}');
        create user mapping for owner server pbx options (username 'callstats', password 'secret');
        create user mapping for callstats_worker server pbx options (username 'callstats', password 'secret');
        create foreign table public.cdr (calldate timestamp, src text, dst text, dcontext text, channel text,
            dstchannel text, lastapp text, billsec int, disposition text, accountcode text, uniqueid text,
            linkedid text) server pbx options (dbname 'asterisk', table_name 'cdr')""")
    preset = ("--preset", "asterisk", "--time-zone", "Europe/Berlin")
    report = adopt(database, "try", *preset)
    assert "Foreign Scan of cdr" in report
    # The advice is MySQL's, and works there.
    [line] = [line for line in report.splitlines() if line.startswith("index")]
    statement = line.split(maxsplit=1)[1].partition(": ")[0]
    assert statement == "create index callstats_start on `asterisk`.`cdr` (`calldate`)"
    mariadb.query(statement)
    adopt(database, "on", *preset)
    worker = start(Worker, database.url)
    expected = int(mariadb.query("select count(*) from asterisk.cdr where date(calldate) = '2026-03-03'").split()[-1])
    before = len(mariadb.statements())
    assert body(worker, "pbx/acme", "20260303") == (
        f'[{{"date":"20260303","folder":"queue","calls":{expected},"avg_duration_seconds":50,'
        f'"agents":[{{"agent_id":"200","calls":{expected},"avg_duration_seconds":50}}]}}]')
    asked = mariadb.statements()[before:]
    # Another connection of the worker may prepare itself at the same time, with a day in 1970.
    bounds = ("`calldate` >= TIMESTAMP'", "`calldate` < TIMESTAMP'")
    assert all(bound in statement for statement in asked for bound in bounds)
    [asked] = [statement for statement in asked if "TIMESTAMP'2026" in statement]
    assert "`calldate` >= TIMESTAMP'2026-02-28 20:00:00'" in asked, asked
    assert "`calldate` < TIMESTAMP'2026-03-06 04:00:00'" in asked, asked
    year = body(worker, "pbx/acme", "20260101-20261231")
    assert sum(int(part.split(",")[0]) for part in year.split('"folder":"queue","calls":')[1:]) == 20000
    adopt(database, "on", *preset, "--horizon", "30 days")
    adopt(database, "sync")
    assert body(worker, "pbx/acme", "20260101-20261231") == year
    mariadb.query("use asterisk; insert into cdr select date_add(now(), interval -seq minute), '1', '2', 'new', "
                  "'SIP/100-1', 'SIP/300-2', 'Dial', 9, 9, 'ANSWERED', 'acme', 'x', 'x' from seq_1_to_1")
    adopt(database, "sync")
    assert '"folder":"new","calls":1,"avg_duration_seconds":9' in body(worker, "pbx/acme", "20260101-20271231")
