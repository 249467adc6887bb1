"""`callstats --listen`: its spellings, who may connect, and what is in its place already."""

import os
import signal
import socket
import stat
import subprocess

import pytest

from ..support import fastcgi
from ..support.processes import CALLSTATS, Folder, Process, as_user, free_port, wait_until
from ..support.sample import BILLING, DAY


@pytest.fixture
def folder():
    folder = Folder("listen")
    yield folder
    folder.remove()


@pytest.fixture
def serve(folder, replay_worker, request):
    """Starts `callstats --listen` and waits until it serves."""

    def served(*arguments, **environment):
        log = folder / f"log{len(os.listdir(folder.path))}"
        process = Process([CALLSTATS, "--listen", *arguments], log, **replay_worker.environment | environment)
        request.addfinalizer(process.stop)
        wait_until(lambda: "serves" in process.text() or process.popen.poll() is not None)
        assert process.popen.poll() is None, process.text()
        return process

    return served


def refused(replay_worker, *arguments, code=1, **environment):
    """Standard error of a worker that cannot start."""
    done = subprocess.run(
        [CALLSTATS, "--listen", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        **as_user(**replay_worker.environment | environment),
    )
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.mark.parametrize("spelling", ["{}", "unix:{}", "unix://{}"])
def test_spellings_of_a_path_listen_there(spelling, folder, serve):
    serve(spelling.format(folder / "s"))
    assert fastcgi.ask(str(folder / "s"), "GET", DAY).body == BILLING


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_spellings_of_a_host_listen_on_its_port(host, serve):
    port = free_port()
    serve(f"{host}:{port}")
    assert fastcgi.ask((host.strip("[]"), port), "GET", DAY).body == BILLING


@pytest.mark.parametrize(
    "spelling, hint",
    [
        ("9000", "Hint: use 127.0.0.1:9000 for this host"),
        (":9000", "Hint: use 127.0.0.1:9000 for this host"),
        ("*:9000", "0.0.0.0:9000 or [::]:9000 for every address"),
        ("::1:9000", "Hint: use [::1]:9000"),
        ("127.0.0.1", "Hint: use 127.0.0.1:9000"),
        ("./callstats.sock", "Hint: use an absolute one"),
        ("unix:callstats.sock", "Hint: use an absolute one"),
        ("tcp://127.0.0.1:9000", "Hint: use /path/to.sock or host:port"),
        ("127.0.0.1:0", "or another port from 1 to 65535"),
        ("", "Hint: use /path/to.sock or 127.0.0.1:9000"),
    ],
)
def test_other_spellings_are_refused_with_the_right_one(spelling, hint, replay_worker):
    text = refused(replay_worker, spelling, code=2)
    assert hint in text and f'--listen "{spelling}"' in text and "usage: callstats" in text


@pytest.mark.parametrize(
    "arguments, environment, mode",
    [
        ([], {}, 0o660),
        (["--listen-mode", "0600"], {}, 0o600),
        (["--listen-mode", "666"], {}, 0o666),
        ([], {"CALLSTATS_LISTEN_MODE": "0640"}, 0o640),
        (["--listen-mode", "0600"], {"CALLSTATS_LISTEN_MODE": "0640"}, 0o600),
        ([], {"CALLSTATS_LISTEN_MODE": ""}, 0o660),
    ],
)
def test_mode_of_the_socket_is_what_was_asked_for(arguments, environment, mode, folder, serve):
    serve(folder / "s", *arguments, **environment)
    assert stat.S_IMODE(os.stat(folder / "s").st_mode) == mode


@pytest.mark.parametrize("how", ["option", "number", "variable"])
def test_group_of_the_socket_is_what_was_asked_for(how, folder, replay_worker):
    """As root, who may give a socket to any group."""
    environment = replay_worker.environment | {"PATH": "/usr/bin:/bin"}
    number = int(subprocess.run(["id", "-g", "www-data"], capture_output=True, check=True).stdout)
    by_option = {"option": ["--listen-group", "www-data"], "number": ["--listen-group", str(number)], "variable": []}
    arguments = by_option[how]
    if how == "variable":
        environment["CALLSTATS_LISTEN_GROUP"] = "www-data"
    command = [CALLSTATS, "--listen", folder / "s", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        # The mode is set last.
        wait_until(lambda: (folder / "s").exists() and os.stat(folder / "s").st_mode & 0o777 == 0o660)
        assert os.stat(folder / "s").st_gid == number
    finally:
        process.terminate()
        process.wait()
    assert not (folder / "s").exists()


def test_socket_is_removed_if_the_worker_is_stopped_as_soon_as_it_exists(folder, replay_worker):
    command = [CALLSTATS, "--listen", folder / "early"]
    for _ in range(60):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **as_user(**replay_worker.environment)
        )
        while not (folder / "early").exists():
            assert process.poll() is None  # without a pause: what counts is the first millisecond
        process.terminate()
        _, log = process.communicate(timeout=15)
        assert (process.returncode, (folder / "early").exists()) == (0, False), log


def test_wrong_modes_and_groups_are_refused(folder, replay_worker):
    path = folder / "s"
    assert "Hint: use an octal mode such as 0660" in refused(replay_worker, path, "--listen-mode", "rw", code=2)
    text = refused(replay_worker, path, CALLSTATS_LISTEN_MODE="999", code=78)
    assert 'CALLSTATS_LISTEN_MODE is "999". Hint: use an octal mode such as 0660' in text
    assert "there is no group nosuch. Hint: " in refused(replay_worker, path, "--listen-group", "nosuch")
    text = refused(replay_worker, path, "--listen-group", "www-data")  # of which the unprivileged user is no member
    assert "cannot hand it to the group www-data" in text and "Hint: add the worker's user to that group" in text
    assert not path.exists()
    assert "not for host:port" in refused(replay_worker, "127.0.0.1:9000", "--listen-mode", "0660", code=2)


def test_socket_of_an_ended_process_is_replaced(folder, serve):
    process = serve(folder / "s")
    process.stop(signal.SIGKILL)
    assert (folder / "s").exists()
    serve(folder / "s")
    assert fastcgi.ask(str(folder / "s"), "GET", DAY).body == BILLING


def test_live_socket_is_refused_and_kept(folder, serve, replay_worker):
    serve(folder / "s")
    text = refused(replay_worker, folder / "s")
    assert "another process listens on it. Hint: stop that process, or use another path" in text
    assert fastcgi.ask(str(folder / "s"), "GET", DAY).body == BILLING


def test_socket_whose_queue_is_full_is_live(folder, replay_worker):
    with socket.socket(socket.AF_UNIX) as hung, socket.socket(socket.AF_UNIX) as first, \
            socket.socket(socket.AF_UNIX) as second:
        hung.bind(str(folder / "s"))
        hung.listen(0)
        os.chmod(folder / "s", 0o777)
        first.connect(str(folder / "s"))
        second.setblocking(False)
        with pytest.raises(BlockingIOError):
            second.connect(str(folder / "s"))
        assert "another process listens on it" in refused(replay_worker, folder / "s")


@pytest.mark.parametrize("kind", ["file", "folder", "pipe", "link", "broken link", "datagram socket"])
def test_other_file_in_its_place_is_refused_and_kept(kind, folder, replay_worker):
    path = folder / "s"
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    {
        "file": lambda: folder.write("s", "data"),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to("/dev/null"),
        "broken link": lambda: path.symlink_to("/nowhere"),
        "datagram socket": lambda: (datagrams.bind(str(path)), path.chmod(0o777)),
    }[kind]()
    before = path.lstat()
    text = refused(replay_worker, path)
    problem = "another process listens on it" if kind == "datagram socket" else "a file that is not a socket"
    assert f"cannot listen on {path}: {problem}" in text and "Hint: " in text
    assert path.lstat().st_ino == before.st_ino
    datagrams.close()


def test_missing_folder_and_a_used_port_have_a_hint(folder, serve, replay_worker):
    assert f"Hint: create the folder {folder / 'none'}" in refused(replay_worker, folder / "none" / "s")
    assert "Hint: let the worker's user write to the folder /run" in refused(replay_worker, "/run/callstats-test.sock")
    address = f"127.0.0.1:{free_port()}"
    serve(address)
    text = refused(replay_worker, address)
    assert f"cannot listen on {address}" in text and "Hint: stop the process that listens there" in text


def test_worker_that_ends_keeps_the_socket_of_its_successor(folder, serve):
    first = serve(folder / "s")
    (folder / "s").unlink()
    serve(folder / "s")
    assert first.stop() == 0
    assert fastcgi.ask(str(folder / "s"), "GET", DAY).body == BILLING
