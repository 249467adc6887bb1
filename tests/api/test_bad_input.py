"""Bad input gets a clear answer, and the worker serves the next request."""
import json

import pytest

from ..support import fastcgi
from ..support.processes import PROJECT, wait_until
from ..support.sample import ORGANIZATION_DAY
from ..support.worker import ROOT_TOKEN, Worker

UNREADABLE = "Malformed request"
FORM = "The path is not one of this API."

BAD = {
    "no path": ("GET", "/stats", (), 404, FORM),
    "too many segments": ("GET", "/stats/a/b/c/d/e?token=x", (), 404, FORM),
    "a thousand segments": ("GET", "/stats" + "/x" * 1000, (), 404, FORM),
    "broken escape": ("GET", "/stats/a/%zz", (), 400, UNREADABLE),
    "Latin-1 in the path": ("GET", b"/stats/acme/caf\xe9", (), 400, UNREADABLE),
    "Latin-1 in the query": ("GET", b"/stats/acme/support?token=caf\xe9", (), 400, UNREADABLE),
    "Latin-1 in a token": ("GET", "/stats/a/b", [("Authorization", b"Bearer caf\xe9")], 400, UNREADABLE),
    "NUL in the path": ("GET", "/stats/acme/a%00", (), 400, UNREADABLE),
    "raw NUL in the path": ("GET", b"/stats/acme/a\0", (), 400, UNREADABLE),
    "a name of 8 KB": ("GET", f"/stats/acme/{'x' * 8192}?token={ROOT_TOKEN}", (), 404, "No organization named"),
    "a company of 8 KB": ("GET", f"/stats/{'%C3%A9' * 4096}/x?token={ROOT_TOKEN}", (), 404, "No company named"),
    "a folder of 8 KB": ("GET", f"/stats/acme/support/{'x' * 8192}?token={ROOT_TOKEN}", (), 404, "No folder named"),
    "a token of 10 KB": ("GET", f"/stats/acme/support?token={'x' * 10240}", (), 401, "Missing or invalid token"),
    "a bearer of 10 KB": (
        "GET",
        "/stats/acme/support",
        [("Authorization", "Bearer " + "x" * 10240)],
        401,
        "Missing or invalid token",
    ),
    "SQL as a company": ("GET", f"/stats/'%20or%201=1--/support?token={ROOT_TOKEN}", (), 404, "No company named"),
    "SQL as an organization": (
        "GET",
        f"/stats/acme/'%20or%201=1--?token={ROOT_TOKEN}",
        (),
        404,
        "No organization named",
    ),
    "SQL as a folder": ("GET", f"/stats/acme/support/'%20or%201=1--?token={ROOT_TOKEN}", (), 404, "No folder named"),
    "SQL as a token": ("GET", "/stats/acme/support?token='%20or%201=1--", (), 401, "Missing or invalid token"),
    "POST": ("POST", ORGANIZATION_DAY, (), 405, "Method not allowed."),
    "an empty method": ("", ORGANIZATION_DAY, (), 405, "Method not allowed."),
    "a method of 8 KB": ("G" * 8192, ORGANIZATION_DAY, (), 405, "Method not allowed."),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_clear_answer(case, replay_worker):
    method, uri, headers, status, sentence = BAD[case]
    answer = replay_worker.ask(method, uri, headers)
    assert answer.status == status
    assert json.loads(answer.body)["error"].startswith(sentence)
    assert len(answer.body) < 500
    assert replay_worker.ask("GET", ORGANIZATION_DAY).status == 200


@pytest.mark.parametrize("options", ["&x=" + "y" * 30_000, "".join(f"&option{n}=%C3%A9" for n in range(2000)),
                                     "&daterang=1&DATERANGE=2&tokens=3&Token=4", "&&&=&=&", "&;'%22"])
def test_unknown_query_parameters_are_ignored(options, replay_worker):
    answer = replay_worker.ask("GET", ORGANIZATION_DAY + options)
    assert answer.status == 200 and answer.body == replay_worker.ask("GET", ORGANIZATION_DAY).body != b"[]"


@pytest.mark.parametrize("left_out", ["REQUEST_METHOD", "REQUEST_URI"])
def test_missing_cgi_parameter_is_a_400(left_out, replay_worker):
    parameters = fastcgi.parameters("GET", ORGANIZATION_DAY)
    del parameters[left_out]
    with fastcgi.Connection(replay_worker.socket) as connection:
        connection.send(fastcgi.request(parameters, keep=True))
        answer = connection.receive()
        assert answer.status == 400 and json.loads(answer.body)["error"].startswith(UNREADABLE)
        assert connection.ask("GET", ORGANIZATION_DAY).status == 200


def test_body_of_10_mb_is_read_and_refused(replay_worker):
    with fastcgi.Connection(replay_worker.socket) as connection:
        for _ in range(3):
            assert connection.ask("POST", ORGANIZATION_DAY, body=bytes(10_000_000), keep=True).status == 405
            assert connection.ask("GET", ORGANIZATION_DAY, keep=True).status == 200
    assert replay_worker.status("VmHWM") < 32 * 1024


def test_database_without_the_schema_is_a_503(cluster, start):
    database = cluster.database(with_schema=False)
    worker = start(Worker, database.url)
    answer = worker.ask("GET", ORGANIZATION_DAY)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "Hint: run schema.sql" in worker.text() and "503" in worker.text()
    assert b"schema" not in answer.body
    database.script(PROJECT / "deploy" / "schema.sql")
    assert worker.ask("GET", ORGANIZATION_DAY).status == 404  # without a restart: there is no company yet
    database.drop()


def readable(file, content):
    file.write_bytes(content)
    file.chmod(0o755)


@pytest.mark.parametrize(
    "replace, words",
    [
        (lambda file: None, "cannot read the root token file"),
        (lambda file: readable(file, b""), "is empty"),
        (lambda file: file.mkdir(0o755), "is not a regular file"),
        (lambda file: readable(file, b" \n"), "is empty"),
        (lambda file: readable(file, b"caf\xe9"), "cannot read"),
    ],
    ids=["missing", "empty", "a folder", "blanks", "Latin-1"],
)
def test_unusable_root_token_file_is_reported(replace, words, replay_database, start):
    worker = start(Worker, replay_database.url)
    file = worker.root_token_file
    assert worker.ask("GET", ORGANIZATION_DAY).status == 200
    file.unlink()
    replace(file)
    wait_until(lambda: worker.ask("GET", ORGANIZATION_DAY).status == 401, 3)
    assert worker.ask("GET", "/stats/acme/support?token=").status == 401
    assert worker.ask("GET", "/stats/acme/support?token=acme-token").status == 200
    assert worker.text().count(words) == 1, "logged once, not for each request"
    if file.is_dir():
        file.rmdir()
    worker.folder.write("root-token", ROOT_TOKEN)
    wait_until(lambda: worker.ask("GET", ORGANIZATION_DAY).status == 200, 3)
