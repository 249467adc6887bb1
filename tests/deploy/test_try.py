"""The first command of the README, as somebody new runs it."""
import os
import pathlib
import re
import signal
import subprocess
import tempfile

from ..support.processes import PROJECT, wait_until


def environment(tmp_path):
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        if parent != pathlib.Path(tempfile.gettempdir()):
            parent.chmod(0o755)
    return os.environ | {"TMPDIR": str(tmp_path)}


def left_over(tmp_path):
    """Processes that were started in a folder, and files in it."""
    running = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True).stdout.split()
    return running + os.listdir(tmp_path)


def test_once_checks_its_answers_and_exits(tmp_path):
    done = subprocess.run(
        [PROJECT / "deploy" / "try", "--once"], capture_output=True, text=True, env=environment(tmp_path)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all answers were right" in done.stdout and "\x1b" not in done.stdout
    assert left_over(tmp_path) == []


def test_ctrl_c_leaves_nothing_behind(tmp_path):
    # What a shell starts in the background ignores Ctrl-C, and so does what these tests start then.
    process = subprocess.Popen(
        [PROJECT / "deploy" / "try"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(tmp_path),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        base = re.search(r"It is up at (http://\S+)/\.", "".join(lines))[1]
        done = subprocess.run(
            ["curl", "-s", f"{base}/acme/support?token=demo-acme&daterange=20260303"], capture_output=True
        )
        assert done.stdout.startswith(b'[{"date":"20260303"')
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)
    wait_until(lambda: left_over(tmp_path) == [], what="nothing is left over")


def test_unknown_arguments_print_usage():
    done = subprocess.run([PROJECT / "deploy" / "try", "--twice"], capture_output=True, text=True)
    assert done.returncode == 2 and "deploy/try --once" in done.stdout
