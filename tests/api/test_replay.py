"""The replay files over each way to the worker: same status, headers and body in all of them."""
import subprocess
import sys

import pytest

from ..support.processes import PROJECT
from ..support.webservers import Apache, ApacheCgid, ApacheFcgid, Lighttpd, Nginx, NginxCgi
from ..support.worker import ROOT_TOKEN

FILES = sorted(map(str, (PROJECT / "tests" / "replay").glob("*.replay")))


def fastcgi(worker, database, start):
    return f"fcgi:{worker.socket}"


def nginx(worker, database, start):
    return start(Nginx, worker.socket)


def apache(worker, database, start):
    return start(Apache, worker.socket)


def apache_fcgid(worker, database, start):
    return start(ApacheFcgid, worker.environment)


def apache_cgid(worker, database, start):
    return start(ApacheCgid, worker.environment)


def lighttpd(worker, database, start):
    return start(Lighttpd, worker.environment)


def fcgiwrap(worker, database, start):
    return start(NginxCgi, worker.environment)


# What these web servers cannot do, as the files in deploy/ document.
DIFFERENT = {apache_fcgid: {"path.replay: A NUL"}, apache_cgid: {"path.replay: A NUL"}}


def days(database):
    """Days as the organization "today" sees them."""
    row = database.query("""select to_char(d, 'YYYYMMDD'), to_char(d - 1, 'YYYYMMDD'), to_char(d + 2, 'YYYYMMDD')
        from (select (now() at time zone 'Pacific/Kiritimati')::date) as today(d)""")[0]
    return dict(zip(("today", "yesterday", "in_two_days"), row))


@pytest.mark.parametrize("way", [fastcgi, nginx, apache, apache_fcgid, apache_cgid, lighttpd, fcgiwrap])
def test_replay_files_pass(way, replay_worker, replay_database, start):
    target = way(replay_worker, replay_database, start)
    values = {"root": ROOT_TOKEN, **days(replay_database)}
    url = target if isinstance(target, str) else "http://stats.example"
    command = [sys.executable, PROJECT / "tests" / "replay" / "replay", url, *FILES,
               *(word for name, value in values.items() for word in ("--set", f"{name}={value}"))]
    if url != target:
        command = target.entering(command)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    print(f"{way.__name__}: {len(FILES)} files, {done.stdout.splitlines()[-1]}")
    failed = {line.removeprefix("failed ") for line in done.stdout.splitlines() if line.startswith("failed ")}
    assert failed == DIFFERENT.get(way, set()), done.stdout + done.stderr
    assert int(done.stdout.splitlines()[-1].split()[0]) >= 60


def test_wrong_expectation_fails(replay_worker, tmp_path):
    """The tool itself: a difference is reported, and counts."""
    file = tmp_path / "wrong.replay"
    file.write_text(
        "# Wrong\n> GET /stats\n< 200\n< Allow: GET\n[]\n\n# Right\n> GET /stats\n< 404\n"
        '{"error":"The path is not one of this API.",'
        '"hint":"Use /stats/COMPANY/ORGANIZATION or /stats/COMPANY/ORGANIZATION/FOLDER."}\n'
    )
    command = [sys.executable, PROJECT / "tests" / "replay" / "replay", f"fcgi:{replay_worker.socket}", file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Wrong" in done.stdout and "status 404, expected 200" in done.stdout and "Allow: None" in done.stdout
    assert done.stdout.endswith("1 passed, 1 failed\n")
