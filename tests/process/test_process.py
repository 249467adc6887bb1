"""How it is started, what it reads from its environment, and what it logs."""
import json
import os
import re
import socket
import subprocess

import pytest

from ..support import fastcgi
from ..support.processes import CALLSTATS, as_user, free_port, wait_until
from ..support.sample import BILLING, DAY
from ..support.worker import ROOT_TOKEN, Worker


def run(*arguments, **environment):
    return subprocess.run(
        [CALLSTATS, *arguments], stdin=subprocess.DEVNULL, capture_output=True, **as_user(**environment)
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        ["--listen"],
        ["--frobnicate"],
        ["check", "me"],
        ["--version", "x"],
        ["--listen", "/x", "y"],
        ["--listen=/x", "check"],
    ],
)
def test_unknown_arguments_print_usage(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert b"usage: callstats" in done.stderr and done.stdout == b""


def test_version_and_help_are_printed():
    assert re.fullmatch(rb"callstats \d+\.\d+\.\d+ \(commit [^()]+\)\n", run("--version").stdout)
    done = run("--help")
    assert done.returncode == 0 and b"DATABASE_URL" in done.stdout


def test_invalid_values_are_reported_together():
    done = run("--listen", "/nowhere/x", DATABASE_URL="postgresql://u:pa55word@h/db?bogus=1", CALLSTATS_PREFIX="stats",
               CALLSTATS_DB_CONNECTIONS="0", CALLSTATS_DB_WAIT_MS="soon", CALLSTATS_STATEMENT_TIMEOUT_MS="-1")
    assert done.returncode == 78
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 5 and all(" ERROR " in line for line in lines)
    assert "pa55word" not in done.stderr.decode()


def test_worker_starts_while_the_database_is_unavailable(start):
    worker = start(Worker, "host=/nowhere user=callstats_worker", CALLSTATS_DB_WAIT_MS="200")
    answer = worker.ask("GET", DAY)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "cannot connect to the database" in worker.text() and "DATABASE_URL is correct" in worker.text()


@pytest.mark.parametrize(
    "value",
    ["verbose", "2", "off", "none", "callstats=off", "info,callstats::database=off", "info,fastcgi=off", "info/x"],
)
def test_log_filter_that_hides_errors_is_refused_aloud(value, replay_worker):
    environment = {**replay_worker.environment, "RUST_LOG": value}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = subprocess.run([CALLSTATS], stdin=listener, capture_output=True, timeout=20, **as_user(**environment))
    assert done.returncode == 78 and b"RUST_LOG would hide errors. Hint: use error, warn," in done.stderr, done.stderr


@pytest.mark.parametrize("value, is_shown", [("", True), ("callstats=info", True), ("error", False)])
def test_log_filter_shows_what_it_names(value, is_shown, replay_worker):
    environment = {**replay_worker.environment, "RUST_LOG": value}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        process = subprocess.Popen([CALLSTATS], stdin=listener, stderr=subprocess.PIPE, **as_user(**environment))
        assert fastcgi.ask(listener.getsockname(), "GET", DAY).body == BILLING
        process.terminate()
        _, log = process.communicate(timeout=20)
    assert (b"/Billing 200 " in log) == is_shown and process.returncode == 0, log


def test_worker_listens_on_a_path(replay_worker, start):
    worker = start(Worker, replay_worker.environment["DATABASE_URL"], listen=True)
    assert worker.ask("GET", DAY).body == BILLING
    assert os.stat(worker.socket).st_mode & 0o777 == 0o660
    second = run("--listen", worker.socket, **worker.environment)
    assert second.returncode == 1 and b"cannot listen on" in second.stderr
    assert worker.process.stop() == 0
    assert not os.path.exists(worker.socket)


def test_stale_socket_is_replaced(replay_worker, start):
    worker = start(Worker, replay_worker.environment["DATABASE_URL"], listen=True)
    worker.crash()
    assert os.path.exists(worker.socket)
    worker.listen()
    assert worker.ask("GET", DAY).body == BILLING


def test_worker_listens_on_a_port(replay_worker):
    port = free_port()
    process = subprocess.Popen([CALLSTATS, "--listen", f"127.0.0.1:{port}"], stdin=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, **as_user(**replay_worker.environment))
    try:
        def answered():
            try:
                return fastcgi.ask(("127.0.0.1", port), "GET", DAY)
            except ConnectionRefusedError:
                return None
        assert wait_until(answered).body == BILLING
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_listening_socket_as_standard_input_is_served(replay_worker, tmp_path):
    """As systemd does with StandardInput=socket."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        process = subprocess.Popen(
            [CALLSTATS], stdin=listener, stderr=subprocess.DEVNULL, **as_user(**replay_worker.environment)
        )
        try:
            assert fastcgi.ask(listener.getsockname(), "GET", DAY).body == BILLING
        finally:
            process.terminate()
            assert process.wait(10) == 0


def cgi(worker, *arguments, **parameters):
    environment = worker.environment | {"GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET"} | parameters
    done = run(*arguments, **environment)
    return done, fastcgi.cgi_response(done.stdout)


def test_cgi_request_is_answered(replay_worker):
    done, (status, headers, body) = cgi(replay_worker, REQUEST_URI=DAY, QUERY_STRING=DAY.partition("?")[2])
    assert (done.returncode, status, body) == (0, 200, BILLING)
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert len(done.stderr.splitlines()) == 1


def test_cgi_without_a_request_uri_is_answered(replay_worker):
    done, (status, _, body) = cgi(replay_worker, SCRIPT_NAME="/stats", PATH_INFO="/acme/support/Zürich",
                                  QUERY_STRING=f"token={ROOT_TOKEN}&daterange=20260304")
    assert status == 200 and "Zürich" in body.decode()


@pytest.mark.parametrize("word", ["check", "--help", "--listen"])
def test_cgi_query_is_not_taken_for_arguments(word, replay_worker):
    """RFC 3875, section 4.4: a query without an equals sign can arrive on the command line."""
    _, (status, _, _) = cgi(replay_worker, word, REQUEST_URI=f"/stats/acme/support?{word}", QUERY_STRING=word)
    assert status == 401


def test_cgi_with_an_invalid_configuration_is_a_500(replay_worker):
    done, (status, _, body) = cgi(replay_worker, REQUEST_URI=DAY, CALLSTATS_DB_CONNECTIONS="many")
    assert (done.returncode, status) == (78, 500)
    assert b"CALLSTATS_DB_CONNECTIONS" in done.stderr and b"CALLSTATS" not in body and json.loads(body)["error"]


def test_cgi_with_an_unavailable_database_is_a_503(replay_worker):
    done, (status, headers, _) = cgi(replay_worker, REQUEST_URI=DAY, DATABASE_URL="host=/nowhere user=x")
    assert (done.returncode, status, headers["retry-after"]) == (0, 503, "1")


def test_each_request_is_logged_in_one_line(replay_database, start):
    worker = start(Worker, replay_database.url)
    worker.ask("GET", DAY)
    worker.ask("HEAD", "/stats/acme/support?token=guess")
    worker.ask("GET", "/stats/acme/a%0Ab\nforged line?x")
    lines = [re.sub(r"^\[.{20} ", "", line) for line in worker.text().splitlines()[1:]]
    assert re.fullmatch(
        r"INFO  callstats\] GET /stats/acme/support/Billing 200 1 entries \d+\.\d ms token root", lines[0]
    )
    assert re.fullmatch(r"INFO  callstats\] HEAD /stats/acme/support 401 0 entries \d+\.\d ms", lines[1])
    assert re.fullmatch(r"INFO  callstats\] GET /stats/acme/a%0Ab\\nforged line 401 0 entries \d+\.\d ms", lines[2])
    assert len(lines) == 3


def test_configured_prefix_is_served(replay_database, start):
    worker = start(Worker, replay_database.url, CALLSTATS_PREFIX="/api/v1")
    assert worker.ask("GET", DAY.replace("/stats", "/api/v1")).body == BILLING
    assert b"/api/v1/COMPANY/ORGANIZATION" in worker.ask("GET", DAY).body
