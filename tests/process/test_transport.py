"""Faults of the transport: whatever arrives on the socket, the process and all other connections continue."""
import contextlib
import json
import random
import resource
import statistics
import threading
import time

import pytest

from ..support import fastcgi
from ..support.processes import wait_until
from ..support.sample import BILLING, DAY
from ..support.worker import Worker

REQUEST = fastcgi.request(fastcgi.parameters("GET", DAY))
KEPT = fastcgi.request(fastcgi.parameters("GET", DAY), keep=True)


@pytest.fixture
def worker(replay_database, start):
    worker = start(Worker, replay_database.url)
    assert worker.ask("GET", DAY).body == BILLING
    return worker


@pytest.fixture
def shared(replay_worker):
    """For what leaves no trace: its user checks that the worker still answers."""
    yield replay_worker
    assert replay_worker.ask("GET", DAY).body == BILLING


def faults(worker):
    """The lines of the log that are not for requests."""
    return [line for line in worker.text().splitlines() if " INFO " not in line]


def settled(worker, threads, descriptors):
    wait_until(lambda: worker.threads() <= threads and worker.descriptors() <= descriptors,
               what=f"{threads} threads and {descriptors} descriptors")


@pytest.mark.slow
def test_closed_keep_connections_are_logged_as_nothing(replay_database, start):
    """10,000 of them: after an answer, in the middle of a record, at once. PostgreSQL sees one connection."""
    worker = start(Worker, replay_database.url, CALLSTATS_DB_CONNECTIONS="1")
    assert worker.ask("GET", DAY).body == BILLING
    wait_until(lambda: worker.threads() < 6)
    threads, descriptors, memory = worker.threads(), worker.descriptors(), worker.status("VmRSS")

    def close_many(seed):
        choice = random.Random(seed)
        for _ in range(2500):
            with fastcgi.Connection(worker.socket) as connection:
                if choice.random() < 0.5:
                    assert connection.ask("GET", DAY, keep=True).body == BILLING
                connection.send(KEPT[:choice.randrange(len(KEPT))])

    closers = [threading.Thread(target=close_many, args=(seed,)) for seed in range(4)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join()
    settled(worker, threads, descriptors)
    assert faults(worker) == []
    assert worker.status("VmRSS") < memory + 4096
    assert worker.ask("GET", DAY).body == BILLING


def test_worker_recovers_after_descriptors_ran_out(replay_database, start):
    limit = (resource.RLIMIT_NOFILE, (100, 100))
    worker = start(Worker, replay_database.url, CALLSTATS_DB_CONNECTIONS="4", before=lambda: resource.setrlimit(*limit))
    assert worker.ask("GET", DAY).body == BILLING
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(fastcgi.Connection(worker.socket)) for _ in range(300)]
        wait_until(lambda: "cannot accept a connection" in worker.text())
        crowd[0].send(KEPT)
        assert crowd[0].receive().body == BILLING, "who is connected is served"
    ended = time.monotonic()
    assert worker.ask("GET", DAY).body == BILLING
    assert time.monotonic() - ended < 1
    assert 1 <= len(faults(worker)) <= 1 + time.monotonic() - began
    assert all("raise the limit of open files" in line for line in faults(worker))


def test_database_lost_while_descriptors_are_exhausted_is_a_503(replay_database, start):
    """The crate postgres panics where it gets no descriptor: that must not cost the pool its connections for good."""
    limit = (resource.RLIMIT_NOFILE, (100, 100))
    worker = start(Worker, replay_database.url, CALLSTATS_DB_CONNECTIONS="2", CALLSTATS_DB_WAIT_MS="500",
                   before=lambda: resource.setrlimit(*limit))
    assert worker.ask("GET", DAY).body == BILLING
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(fastcgi.Connection(worker.socket)) for _ in range(300)]
        wait_until(lambda: "cannot accept a connection" in worker.text())
        replay_database.query("""select pg_terminate_backend(pid) from pg_stat_activity
            where usename = 'callstats_worker' and datname = current_database()""")
        wait_until(lambda: worker.descriptors() >= 100)
        for connection in crowd[:10]:
            connection.send(REQUEST)
        assert {connection.receive().status for connection in crowd[:10]} <= {200, 503}
    wait_until(lambda: worker.ask("GET", DAY).status == 200, 5)
    assert "internal error" not in worker.text() and "panicked" not in worker.text()


@pytest.mark.parametrize("parameters", [
    [(f"HTTP_X_{n}", "x") for n in range(20_000)],
    [("HTTP_X", "x" * 1_000_000)],
    [("X" * 1_000_000, "")],
], ids=["20,000 parameters", "a value of 1 MB", "a name of 1 MB"])
def test_many_or_long_parameters_are_accepted(parameters, shared):
    with fastcgi.Connection(shared.socket) as connection:
        connection.send(fastcgi.request([*parameters, *fastcgi.parameters("GET", DAY).items()]))
        assert connection.receive().body == BILLING


@pytest.mark.slow
def test_parameters_up_to_the_limit_are_accepted(worker):
    """The limit that README states is one of bytes, 1 MiB."""
    parameters = fastcgi.parameters("GET", DAY)
    room = 1024 * 1024 - len(fastcgi.pairs(parameters))
    many = [(f"H{n:05}", "") for n in range(100_000)]
    left = room - len(fastcgi.pairs(many))
    for filler, is_answered in ((left - 6, True), (left - 5, False)):
        data = fastcgi.request([*many, ("F", "x" * filler), *parameters.items()])
        with fastcgi.Connection(worker.socket) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.send(data)
            if is_answered:
                assert connection.receive().body == BILLING
            else:
                assert connection.receive_streams() == (b"", b"", None)
    assert [line for line in faults(worker)] == [
        line for line in worker.text().splitlines() if "more than 1048576 bytes of parameters" in line]
    assert len(faults(worker)) == 1
    assert worker.ask("GET", DAY).body == BILLING


def test_many_parameters_cost_little_time(worker):
    """20,000 of them: below 20 ms, in the best of ten."""
    data = fastcgi.request(
        [*((f"HTTP_X_{n}", "x") for n in range(20_000)), *fastcgi.parameters("GET", DAY).items()], keep=True
    )
    durations = []
    with fastcgi.Connection(worker.socket) as connection:
        for _ in range(10):
            began = time.perf_counter()
            connection.send(data)
            assert connection.receive().body == BILLING
            durations.append(time.perf_counter() - began)
    print(f"20,000 parameters: {min(durations) * 1000:.1f} ms")
    assert min(durations) < 0.02


def lying(name_length, value_length):
    return fastcgi.begin() + fastcgi.stream(fastcgi.PARAMS, name_length + value_length + b"XY")


PROTOCOL_ERRORS = {
    "a name longer than all": lying(b"\x7f", b"\x01"),
    "a value longer than all": lying(b"\x01", b"\x7f"),
    "lengths of 2 GB": lying(b"\xff\xff\xff\xff", b"\xff\xff\xff\xff"),
    "half a length": fastcgi.begin() + fastcgi.stream(fastcgi.PARAMS, b"\xff\xff"),
    "an empty BEGIN_REQUEST": fastcgi.record(fastcgi.BEGIN_REQUEST),
    "another version": b"\x02" + REQUEST[1:],
    "a record that only workers send": fastcgi.record(fastcgi.END_REQUEST, bytes(8)),
    "a record of type 0": fastcgi.record(0),
    "zeros": bytes(1000),
    "HTTP": b"GET /stats/acme/support HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("160301020001000001fc0303") + bytes(500),
    "text": b"hello" * 100,
}


@pytest.mark.parametrize("case", PROTOCOL_ERRORS)
def test_protocol_violation_ends_its_connection(case, shared):
    with fastcgi.Connection(shared.socket) as connection:
        connection.send(PROTOCOL_ERRORS[case])
        connection.socket.shutdown(1)
        assert connection.receive_streams()[2] in (None, 0)
        assert connection.is_closed()


def test_second_begin_request_is_refused(shared):
    """FastCGI 1.0, section 5.1: no multiplexing here, so FCGI_CANT_MPX_CONN."""
    first, second = fastcgi.parameters("GET", DAY), fastcgi.begin(request_id=2)
    with fastcgi.Connection(shared.socket) as connection:
        connection.send(fastcgi.begin() + second + fastcgi.stream(fastcgi.PARAMS, fastcgi.pairs(first))
                        + fastcgi.stream(fastcgi.STDIN, b""))
        kind, request_id, content = connection.read_record()
        assert (kind, request_id, content[4]) == (fastcgi.END_REQUEST, 2, 1)
        assert connection.receive().body == BILLING


def test_record_of_an_unknown_type_is_answered(shared):
    """FastCGI 1.0, section 4.2: FCGI_UNKNOWN_TYPE."""
    with fastcgi.Connection(shared.socket) as connection:
        connection.send(fastcgi.record(99, b"?", request_id=0))
        kind, request_id, content = connection.read_record()
        assert (kind, request_id, content[0]) == (fastcgi.UNKNOWN_TYPE, 0, 99)
        connection.send(REQUEST)
        assert connection.receive().body == BILLING


def test_get_values_is_answered(shared):
    """FastCGI 1.0, section 4.1."""
    with fastcgi.Connection(shared.socket) as connection:
        names = ["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS", "UNKNOWN"]
        connection.send(fastcgi.record(fastcgi.GET_VALUES, fastcgi.pairs([(name, "") for name in names]), request_id=0))
        kind, request_id, content = connection.read_record()
        assert (kind, request_id) == (fastcgi.GET_VALUES_RESULT, 0)
        assert content == fastcgi.pairs([("FCGI_MAX_CONNS", "10000"), ("FCGI_MAX_REQS", "10000"),
                                          ("FCGI_MPXS_CONNS", "0")])
        connection.send(REQUEST)
        assert connection.receive().body == BILLING


@pytest.mark.parametrize("sent_before", [b"", fastcgi.record(fastcgi.PARAMS, fastcgi.pairs({"REQUEST_METHOD": "GET"}))])
def test_aborted_request_ends(sent_before, shared):
    """FastCGI 1.0, section 5.4; the kept connection continues."""
    with fastcgi.Connection(shared.socket) as connection:
        connection.send(fastcgi.begin(keep=True) + sent_before + fastcgi.record(fastcgi.ABORT_REQUEST))
        out, _, app_status = connection.receive_streams()
        assert (out, app_status) == (b"", 0)
        assert connection.ask("GET", DAY).body == BILLING


def test_abort_in_the_middle_of_a_body_ends_the_request(shared):
    with fastcgi.Connection(shared.socket) as connection:
        parameters = fastcgi.pairs(fastcgi.parameters("POST", DAY, body=bytes(100)))
        connection.send(fastcgi.begin(keep=True) + fastcgi.stream(fastcgi.PARAMS, parameters)
                        + fastcgi.record(fastcgi.STDIN, bytes(50)) + fastcgi.record(fastcgi.ABORT_REQUEST))
        out, _, app_status = connection.receive_streams()
        assert (out, app_status) == (b"", 0)
        assert connection.ask("GET", DAY).body == BILLING


@pytest.mark.parametrize("role", [fastcgi.AUTHORIZER, fastcgi.FILTER])
@pytest.mark.parametrize("keep", [False, True])
def test_other_roles_are_refused(role, keep, worker):
    """FastCGI 1.0, section 5.5: FCGI_UNKNOWN_ROLE. A kept connection stays usable; a storm is logged once a second."""
    began = time.monotonic()
    with fastcgi.Connection(worker.socket) as connection:
        for _ in range(20 if keep else 1):
            connection.send(fastcgi.request(fastcgi.parameters("GET", DAY), role=role, keep=keep))
            assert connection.receive_streams() == (b"", b"", 0) and connection.protocol_status == 3
        if keep:
            assert connection.ask("GET", DAY).body == BILLING
        assert connection.is_closed()
    lines = worker.text().count("Hint: configure the web server for a responder")
    assert 1 <= lines <= 1 + time.monotonic() - began


def test_unknown_role_is_refused(shared):
    """FastCGI 1.0, section 5.1: FCGI_UNKNOWN_ROLE."""
    with fastcgi.Connection(shared.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", DAY), role=9))
        assert connection.receive_streams()[2] == 0 and connection.protocol_status == 3


LATIN1 = ("HTTP_USER_AGENT", b"caf\xe9")


@pytest.mark.parametrize("place", [0, 2, 4, 7])
def test_parameter_that_is_not_utf8_hides_no_other(place, shared):
    parameters = list(fastcgi.parameters("GET", DAY).items())
    parameters.insert(place, LATIN1)
    with fastcgi.Connection(shared.socket) as connection:
        connection.send(fastcgi.request(parameters))
        assert connection.receive().body == BILLING


@pytest.mark.parametrize(
    "name, value",
    [
        ("REQUEST_URI", b"/stats/acme/support/caf\xe9"),
        ("QUERY_STRING", b"token=caf\xe9"),
        ("HTTP_AUTHORIZATION", b"Bearer caf\xe9"),
    ],
)
def test_used_parameter_that_is_not_utf8_is_an_error(name, value, shared):
    parameters = {**fastcgi.parameters("GET", "/stats/acme/support"), name: value}
    with fastcgi.Connection(shared.socket) as connection:
        connection.send(fastcgi.request(parameters))
        answer = connection.receive()
        assert answer.status == 400 and "Malformed request" in json.loads(answer.body)["error"]


@pytest.mark.slow
def test_mutated_recordings_stop_no_worker(worker):
    """10,000 real requests with bytes changed, cut out, doubled and put in."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    threads, descriptors = worker.threads(), worker.descriptors()

    def mutate(choice):
        data = bytearray(
            choice.choice([REQUEST, KEPT, KEPT + KEPT, fastcgi.request(fastcgi.parameters("POST", DAY), b"x" * 99)])
        )
        for _ in range(choice.randint(1, 8)):
            at = choice.randrange(len(data))
            kind = choice.randrange(4)
            if kind == 0:
                data[at] = choice.choice([0, 1, 2, 127, 128, 255, choice.randrange(256)])
            elif kind == 1:
                del data[at:at + choice.randint(1, 20)]
            elif kind == 2:
                data[at:at] = data[at:at + choice.randint(1, 200)]
            else:
                data[at:at] = choice.randbytes(choice.randint(1, 20))
        return data

    def send_many(number):
        choice = random.Random(seed + number)
        for _ in range(2500):
            with (
                fastcgi.Connection(worker.socket) as connection,
                contextlib.suppress(BrokenPipeError, ConnectionResetError),
            ):
                connection.send(mutate(choice))
                connection.socket.shutdown(1)
                connection.socket.recv(1000)

    senders = [threading.Thread(target=send_many, args=(number,)) for number in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    settled(worker, threads + 6, descriptors + 64)
    assert not [line for line in faults(worker) if "Hint: configure the web server for a responder" not in line]
    assert worker.ask("GET", DAY).body == BILLING
    assert worker.status("VmHWM") < 64 * 1024


def medians(worker, rounds=300):
    def one(connection):
        began = time.perf_counter()
        assert connection.ask("GET", DAY, keep=True).body == BILLING
        return time.perf_counter() - began
    with fastcgi.Connection(worker.socket) as connection:
        return statistics.median(one(connection) for _ in range(rounds))


@pytest.mark.slow
def test_idle_and_slow_connections_delay_no_other_request(worker):
    """500 that are idle and 200 that send a byte now and then. The ratio is that of medians, the best of three."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    ratios = []
    for _ in range(3):
        alone = medians(worker)
        with contextlib.ExitStack() as stack:
            [stack.enter_context(fastcgi.Connection(worker.socket)) for _ in range(500)]
            slow = [stack.enter_context(fastcgi.Connection(worker.socket)) for _ in range(200)]
            done = threading.Event()

            def trickle(slow=slow, done=done):
                for at in range(len(REQUEST) - 1):
                    for connection in slow:
                        connection.send(REQUEST[at:at + 1])
                    if done.wait(1):
                        return

            trickler = threading.Thread(target=trickle)
            trickler.start()
            wait_until(lambda: worker.threads() > 700)
            ratios.append(medians(worker) / alone)
            peak = worker.status("VmHWM")
            done.set()
            trickler.join()
        wait_until(lambda: worker.threads() < 20)
    print(
        f"median with 700 connections by median without: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; "
        f"peak {peak} kB"
    )
    assert min(ratios) < 1.5
    assert peak < 64 * 1024
    assert faults(worker) == []
