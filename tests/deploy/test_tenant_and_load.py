"""The script of operators for calls from files."""
import os
import subprocess
import time

import pytest

from ..support.processes import PROJECT
from ..support.worker import ROOT_TOKEN, Worker

HEADER = "company,organization,folder,agent,start,seconds\n"


@pytest.fixture
def operator(database):
    """Runs a script of deploy/ as an operator does."""
    environment = os.environ | {"PGHOST": str(database.cluster.folder.path), "PGDATABASE": database.name, "PGUSER": "owner",
                                "PGPORT": str(database.cluster.port)}

    def run(script, *words, **options):
        return subprocess.run([PROJECT / "deploy" / script, *words], capture_output=True, text=True, env=environment, **options)
    run.environment = environment
    return run


@pytest.mark.parametrize("words", [[], ["frobnicate", "frobnicate"]])
def test_wrong_arguments_print_usage(words, operator):
    assert operator("load-calls", *words).returncode == 2


@pytest.fixture
def tenants(operator, database):
    database.query("insert into callstats.company (id, short_name) values (1, 'acme'); insert into callstats.organization "
                   "(company_id, short_name, time_zone) values (1, 'support', 'Europe/Berlin')")
    return operator


def test_load_reads_calls_from_a_file(tenants, database, start, tmp_path):
    file = tmp_path / "calls with a space's.csv"
    file.write_text(HEADER + 'acme,support,"New, ""quoted""",007,2026-03-03 08:15:00,12.5\n'
                    "acme,support,Sales,,2026-03-03T23:30:00Z,0\nacme,support,Sales,x,2026-03-03 23:59,1.0005\n")
    done = tenants("load-calls", file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "loaded 3 calls\n", "")
    worker = start(Worker, database.url)
    uri = f"/stats/acme/support?token={ROOT_TOKEN}&daterange=20260303-20260304"
    expected = (b'[{"date":"20260303","folder":"New, \\"quoted\\"","calls":1,"avg_duration_seconds":12.5,"agents":[{"agent_id":"007",'
                b'"calls":1,"avg_duration_seconds":12.5}]},{"date":"20260303","folder":"Sales","calls":1,"avg_duration_seconds":1.001,'
                b'"agents":[{"agent_id":"x","calls":1,"avg_duration_seconds":1.001}]},'
                b'{"date":"20260304","folder":"Sales","calls":1,"avg_duration_seconds":0}]')
    assert worker.ask("GET", uri).body == expected
    again = tenants("load-calls", file)
    assert again.returncode == 1 and "was loaded before" in again.stderr and "nothing was loaded" in again.stderr
    again = tenants("load-calls", "--if-loaded", "skip", file)
    assert again.returncode == 0 and "passed over" in again.stdout
    again = tenants("load-calls", "-", input=file.read_text())
    assert again.returncode == 1 and "was loaded before" in again.stderr
    assert worker.ask("GET", uri).body == expected
    assert tenants("load-calls", "-", input="\ufeff" + HEADER.replace("\n", "\r\n") + "acme,support,A,,2026-01-01 00:00,1\r\n").returncode == 0


@pytest.mark.parametrize("row, words", [
    ("nobody,support,A,,2026-03-03 08:00,1", 'line 3, column company: "nobody": there is no such company'),
    ("acme,suport,A,,2026-03-03 08:00,1", 'line 3, column organization: "suport": there is no such organization'),
    ("acme,support,,,2026-03-03 08:00,1", 'line 3, column folder: "": a folder must have a name'),
    ("acme,support,A,,2026-02-30 08:00,1", 'line 3, column start: "2026-02-30 08:00": there is no such time'),
    ("acme,support,A,,2026-03-03 25:00,1", 'line 3, column start: "2026-03-03 25:00": there is no such time'),
    ("acme,support,A,,03/03/2026,1", 'line 3, column start: "03/03/2026": expected a time'),
    ("acme,support,A,,now,1", 'line 3, column start: "now"'),
    ("acme,support,A,,,1", 'line 3, column start: ""'),
    ("acme,support,A,,2026-03-03 08:00,-1", 'line 3, column seconds: "-1": expected a number'),
    ("acme,support,A,,2026-03-03 08:00,abc", 'line 3, column seconds: "abc": expected a number'),
    ("acme,support,A,,2026-03-03 08:00,", 'line 3, column seconds: ""'),
    ("acme,support,A,,2026-03-03 08:00,9999999", 'line 3, column seconds: "9999999": more than'),
    ("acme,support," + "x" * 1001 + ",,2026-03-03 08:00,1", "line 3, column folder"),
    ("acme,support,A," + "x" * 1001 + ",2026-03-03 08:00,1", "line 3, column agent"),
    ("acme,support,A,,2026-03-03 08:00", "seconds"),
    ('acme,support,"A\nB",,2026-03-03 08:00,x', 'line 3, column seconds: "x"'),
])
def test_load_of_a_bad_row_changes_nothing(row, words, tenants, database):
    done = tenants("load-calls", "-", input=HEADER + "acme,support,Good,,2026-03-03 08:00,1\n" + row + "\n")
    assert done.returncode == 1 and words in done.stderr and "nothing was loaded" in done.stderr, done.stderr
    assert "line 3" in done.stderr and done.stderr.count("\n") == 1
    assert database.query("select count(*) from callstats.call, callstats.loaded_file") == [(0,)]
    assert database.query("select * from callstats.folder") == []


def test_load_rejects_an_unreadable_file(tenants):
    for words, text in [(["/nowhere.csv"], None), (["-"], ""), (["-"], "a,b,c\n"), (["/tmp"], None)]:
        done = tenants("load-calls", *words, input=text)
        assert done.returncode == 1 and "nothing was loaded" in done.stderr


@pytest.mark.slow
def test_load_of_a_million_rows_keeps_every_row(tenants, database, tmp_path):
    """Whether it takes at most 30 s is for the eye: a busy machine must not fail a test."""
    file = tmp_path / "million.csv"
    with open(file, "w") as out:
        out.write(HEADER)
        for n in range(1_000_000):
            out.write(f"acme,support,folder {n % 20},agent {n * 7 % 50},2026-{n % 12 + 1:02}-{n % 28 + 1:02} {n % 24:02}:{n % 60:02}:00,{n % 600}.{n % 1000:03}\n")
    began = time.monotonic()
    done = tenants("load-calls", file)
    assert done.stdout == "loaded 1000000 calls\n", done.stderr
    print(f"one million rows in {time.monotonic() - began:.1f} s")
    assert database.value("select count(*) from callstats.call") == 1_000_000


@pytest.mark.parametrize("name", ["x\t';touch pwned;#.csv", "$(touch pwned).csv", "`touch pwned`.csv", "a b.csv",
                                  "Müller.csv", "'; touch pwned; '.csv", "-n.csv", "a\nb.csv", "\\'\"$x.csv"])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_load_runs_nothing_in_the_name_of_a_file(name, locale, operator, database, tmp_path):
    database.query("""insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support')""")
    (tmp_path / name).write_text(HEADER + "acme,support,Sales,anna,2026-03-03 08:15:00,125\n")
    file = f"./{name}" if name.startswith("-") else name
    done = subprocess.run([PROJECT / "deploy" / "load-calls", file], capture_output=True, text=True, cwd=tmp_path,
                          env=operator.environment | {"LC_ALL": locale})
    assert done.returncode == 0 and "loaded 1 calls" in done.stdout, done.stderr
    assert not (tmp_path / "pwned").exists()
    assert database.value("select count(*) from callstats.call") == 1
