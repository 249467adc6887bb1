"""The Debian package: built, looked at by lintian, installed where nothing else is, used, upgraded, purged."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from ..support import fastcgi
from ..support.postgres import Cluster
from ..support.processes import PROJECT, free_port, wait_until
from ..support.sample import DATA
from .conftest import clean_debian

# What the first installation prints.
NEXT_STEPS = "/usr/share/doc/callstats/README.md has the next steps"


@pytest.fixture(scope="module")
def root():
    """A fresh Debian in a folder."""
    release = dict(
        line.split("=", 1) for line in pathlib.Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    folder = tempfile.mkdtemp(prefix="callstats-debian-")
    os.chmod(folder, 0o755)
    root = pathlib.Path(folder)
    clean, archives = clean_debian(release["VERSION_CODENAME"]), "var/cache/apt/archives"
    subprocess.run(f"tar -C {clean} --exclude=./{archives}/* -c . | tar -C {root} -x", shell=True, check=True)
    # No test needs it to survive a power cut.
    (root / "etc" / "dpkg" / "dpkg.cfg.d" / "fast").write_text("force-unsafe-io\n")
    # dpkg installs no dependencies: those that a minimal Debian does not have come first.
    needed = [path for name in ("adduser", "libjs-chart.js", "libssl3*")
              for path in pathlib.Path(clean, archives).glob(f"{name}_*.deb")]
    for path in needed:
        shutil.copy(path, root / archives)
    inside(root, "dpkg", "-i", *(f"{archives}/{path.name}" for path in needed))
    yield root
    shutil.rmtree(folder)


def inside(root, *words, **options):
    done = subprocess.run(["chroot", root, *words], capture_output=True, text=True, timeout=120,
                          env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(root):
    """All there is, but for what dpkg keeps for itself."""
    found = set()
    for folder, folders, names in os.walk(root):
        inner = os.path.relpath(folder, root)
        if inner.startswith(("var/lib/dpkg", "var/log", "var/cache", "proc", "tmp", "var/lib/systemd/deb-systemd")):
            folders.clear()
            continue
        found |= {os.path.join(inner, name) for name in [*names, *folders]}
    return found


@pytest.mark.slow
def test_lintian_has_no_errors(package):
    done = subprocess.run(["lintian", "--fail-on", "error", "--allow-root", package], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def unpacked(package, tmp_path_factory):
    """The folder of the documents, in what the package installs."""
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    return folder / "usr" / "share" / "doc" / "callstats"


def test_installed_examples_print_commands_for_their_own_folder(unpacked):
    """As in a checkout, where the tests of each file type them."""
    copied = 0
    for file in filter(pathlib.Path.is_file, (unpacked / "examples").rglob("*")):
        for line in re.findall(r"^# {5}(?:sudo )?cp (.*)$", file.read_text(), re.M):
            *sources, _ = line.split()
            copied += len(sources)
            missing = [source for source in sources if not list(file.parent.glob(source))]
            assert missing == [], f"{file}: {line}"
    assert copied >= 12


def test_links_of_installed_documents_lead_to_installed_files(unpacked):
    documents = [path for path in unpacked.rglob("*.md*") if path.suffix in (".md", ".gz")]
    assert {"README.md", "SECURITY.md", "operations.md"} <= {path.name for path in documents}
    checked = 0
    for document in documents:
        for target in re.findall(r"\]\(([^)\s#]+)[^)\s]*\)", document.read_text()):
            if not re.match("[a-z]+:", target):
                checked += 1
                assert (document.parent / target).exists(), f"{document.name}: {target}"
    assert checked >= 40


@pytest.mark.slow
def test_package_installs_works_upgrades_and_purges(package, root):
    before = files(root)
    accounts = {name: (root / "etc" / name).read_text() for name in ("passwd", "group")}
    shutil.copy(package, root / "tmp" / "callstats.deb")
    assert NEXT_STEPS in inside(root, "dpkg", "-i", "/tmp/callstats.deb")
    come = files(root) - before
    assert {"usr/bin/callstats", "usr/share/callstats/schema.sql", "usr/share/man/man8/callstats.8.gz"} <= come
    pages = {f"usr/share/man/man8/{page.name}.gz" for page in (PROJECT / "deploy" / "man").iterdir()}
    completions = {"usr/share/bash-completion/completions/callstats", "usr/share/zsh/vendor-completions/_callstats",
                   "usr/share/fish/vendor_completions.d/callstats.fish"}
    assert pages | completions <= come
    linked = set(re.findall(r"\]\(([\w./-]+)[)#]", (PROJECT / "README.md").read_text()))
    assert {"docs/api.md", "CHANGELOG.md"} <= linked
    assert {f"usr/share/doc/callstats/{target}" for target in linked} <= come
    page = root / "usr/share/callstats/page"
    for source in (PROJECT / "deploy" / "page").iterdir():
        assert inside(root, "cat", f"/usr/share/callstats/page/{source.name}") == source.read_text(), source.name
    assert (page / "chart.min.js").is_symlink(), "the library is that of libjs-chart.js"
    units = {unit.name for unit in (PROJECT / "deploy" / "systemd").glob("callstats*")}
    assert {name.rpartition("/")[2] for name in come if "systemd/system/callstats" in name} == units
    env, token_file = root / "etc/callstats/callstats.env", root / "etc/callstats/root-token"
    assert env.stat().st_mode & 0o777 == token_file.stat().st_mode & 0o777 == 0o640
    token = token_file.read_text()
    assert re.fullmatch("[A-Za-z0-9]{32}", token)

    cluster = Cluster(["listen_addresses=127.0.0.1"], port=free_port())
    try:
        database = cluster.database(with_schema=False)
        database.script(root / "usr/share/callstats/schema.sql")
        database.script(DATA)
        url = f"host=127.0.0.1 port={cluster.port} dbname={database.name} user=callstats_worker"
        env.write_text(f'{env.read_text()}\nDATABASE_URL="{url}"\n')  # what comes last counts
        start = "set -a; . /etc/callstats/callstats.env; set +a; exec /usr/bin/callstats "
        user = ("--userspec=callstats_worker:callstats_worker",)
        check = subprocess.run(["chroot", *user, root, "sh", "-c", start + "check"], capture_output=True, text=True)
        assert check.returncode == 0, check.stdout + check.stderr
        inside(root, "install", "-d", "-o", "callstats_worker", "/run/callstats")
        worker = subprocess.Popen(["chroot", *user, root, "sh", "-c", start + "--listen /run/callstats/callstats.sock"],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            address = str(root / "run/callstats/callstats.sock")
            wait_until(lambda: os.path.exists(address))
            answer = fastcgi.ask(address, "GET", f"/stats/acme/support/Billing?token={token}&daterange=20260303")
            assert (answer.status, answer.body[:20]) == (200, b'[{"date":"20260303",')
        finally:
            worker.terminate()
            assert worker.wait(20) == 0
    finally:
        cluster.remove()

    # An upgrade keeps what was changed.
    assert NEXT_STEPS not in inside(root, "dpkg", "-i", "/tmp/callstats.deb")
    assert url in env.read_text() and token_file.read_text() == token
    inside(root, "dpkg", "--remove", "callstats")
    assert not (root / "usr/bin/callstats").exists() and env.exists()
    inside(root, "dpkg", "--purge", "callstats")
    assert (
        files(root) - before - {"run/adduser", *(f"etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow"))}
        == set()
    )
    assert {name: (root / "etc" / name).read_text() for name in accounts} == accounts


@pytest.fixture(scope="module")
def earlier(package, tmp_path_factory):
    """The package with the unit names of its first version."""
    folder = tmp_path_factory.mktemp("earlier") / "x"
    subprocess.run(["dpkg-deb", "-R", package, folder], check=True)
    units = folder / "usr/lib/systemd/system"
    for suffix in ("timer", "service"):
        unit = units / f"callstats-partitions.{suffix}"
        text = unit.read_text().replace("callstats-partitions", "callstats-months")
        (units / f"callstats-months.{suffix}").write_text(text.replace("create_month_partitions", "make_months"))
        unit.unlink()
    for name in ("control", "postinst", "postrm", "prerm"):
        script = folder / "DEBIAN" / name
        text = script.read_text().replace("callstats-partitions", "callstats-months")
        script.write_text(re.sub("(?m)^Version: .*", "Version: 0.0.1-1", text) if name == "control" else text)
    command = ["dpkg-deb", "--root-owner-group", "-b", folder, folder.with_suffix(".deb")]
    subprocess.run(command, check=True, capture_output=True)
    return folder.with_suffix(".deb")


@pytest.mark.slow
@pytest.mark.parametrize("state", ["enabled", "disabled", "masked", "changed", "removed"])
def test_timer_of_an_earlier_version_becomes_the_one_of_this(state, package, earlier, root):
    """No unit of the old name is left: neither a file nor a link, a mask or a note of Debian's helper."""
    before = files(root)
    shutil.copy(package, root / "tmp" / "callstats.deb")
    shutil.copy(earlier, root / "tmp" / "earlier.deb")
    inside(root, "dpkg", "-i", "/tmp/earlier.deb")
    etc = root / "etc/systemd/system"
    wants = etc / "timers.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    if state != "disabled":  # as `systemctl enable` does
        (wants / "callstats-months.timer").symlink_to("/lib/systemd/system/callstats-months.timer")
    if state == "masked":
        (etc / "callstats-months.timer").symlink_to("/dev/null")
    if state == "changed":  # as `systemctl edit` does
        for suffix in ("timer", "service"):
            (etc / f"callstats-months.{suffix}.d").mkdir()
            (etc / f"callstats-months.{suffix}.d" / "override.conf").write_text(f"# {suffix}\n")
    if state == "removed":
        inside(root, "dpkg", "--remove", "callstats")
    inside(root, "dpkg", "-i", "/tmp/callstats.deb")
    left = [name for name in files(root) if "callstats-months" in name]
    helper = root / "var/lib/systemd"
    left += [str(path) for path in helper.rglob("*callstats-months*")] if helper.exists() else []
    assert left == []
    link = wants / "callstats-partitions.timer"
    assert link.is_symlink() == (state != "disabled")
    if link.is_symlink():
        assert (root / os.readlink(link).lstrip("/")).exists()
    mask = etc / "callstats-partitions.timer"
    assert mask.is_symlink() == (state == "masked")
    if state == "changed":
        for suffix in ("timer", "service"):
            assert (etc / f"callstats-partitions.{suffix}.d" / "override.conf").read_text() == f"# {suffix}\n"
    inside(root, "dpkg", "--purge", "callstats")
    for suffix in ("timer", "service"):  # what the operator added stays
        shutil.rmtree(etc / f"callstats-partitions.{suffix}.d", ignore_errors=True)
    mask.unlink(missing_ok=True)
    assert [name for name in files(root) - before if "callstats" in name] == []
