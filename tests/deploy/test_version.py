"""The commit in `callstats --version`, for each source that a build can have."""
import re
import shutil
import subprocess

import pytest

from ..support.processes import CALLSTATS, PROJECT

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(folder, *arguments):
    command = ["git", "-c", "user.name=Test", "-c", "user.email=test@stats.example", "-C", folder, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def compiled(folder):
    """The script that cargo runs before it builds the executable."""
    program = folder / "script"
    subprocess.run(["rustc", "--edition=2024", "-o", program, folder / "build.rs"], check=True)
    return program


def commit(folder, **environment):
    done = subprocess.run([compiled(folder)], cwd=folder, check=True, capture_output=True, text=True,
                          env={"PATH": "/usr/bin:/bin"} | environment)
    [value] = re.findall(r"^cargo:rustc-env=BUILD_COMMIT=(.*)$", done.stdout, re.M)
    return value


@pytest.fixture
def sources(tmp_path):
    """What the script looks at, without git."""
    folder = tmp_path / "sources"
    (folder / "src").mkdir(parents=True)
    for name in ("build.rs", ".gitattributes", "Cargo.toml", "src/main.rs"):
        shutil.copy(PROJECT / name, folder / name)
    return folder


@pytest.fixture
def checkout(sources):
    git(sources, "init", "-q")
    git(sources, "add", "-A")
    git(sources, "commit", "-q", "-m", "First")
    return sources


def test_executable_names_its_commit():
    out = subprocess.run([CALLSTATS, "--version"], check=True, capture_output=True, text=True).stdout
    [found] = re.findall(r"^callstats \d+\.\d+\.\d+ \(commit ([0-9a-f]{12})(?:, modified)?\)\n$", out)
    assert git(PROJECT, "cat-file", "-t", found) == "commit"


def test_checkout_has_its_commit_and_marks_changes(checkout):
    head = git(checkout, "rev-parse", "HEAD")[:12]
    assert commit(checkout) == head
    (checkout / "README.md").write_text("not part of the executable\n")
    assert commit(checkout) == head
    with open(checkout / "src" / "main.rs", "a") as source:
        source.write("// changed\n")
    assert commit(checkout) == f"{head}, modified"


def test_worktree_has_its_commit(checkout, tmp_path):
    git(checkout, "worktree", "add", "-q", tmp_path / "other")
    assert commit(tmp_path / "other") == git(checkout, "rev-parse", "HEAD")[:12]


def test_archive_of_git_has_its_commit(checkout, tmp_path):
    git(checkout, "archive", "--prefix=archive/", "-o", tmp_path / "archive.tar", "HEAD")
    subprocess.run(["tar", "-xf", tmp_path / "archive.tar", "-C", tmp_path], check=True)
    assert commit(tmp_path / "archive") == git(checkout, "rev-parse", "HEAD")[:12]


def test_other_sources_have_no_commit_but_that_of_the_builder(sources):
    assert commit(sources) == "unknown"
    assert commit(sources, SOURCE_COMMIT=COMMIT) == COMMIT[:12]
    assert commit(sources, SOURCE_COMMIT="") == "unknown"
    # Inside of somebody else's checkout: that commit is not ours.
    git(sources.parent, "init", "-q")
    git(sources.parent, "commit", "-q", "--allow-empty", "-m", "Theirs")
    assert commit(sources) == "unknown"


def test_build_without_git_works(checkout, tmp_path):
    program = compiled(checkout)
    done = subprocess.run([program], cwd=checkout, check=True, capture_output=True, text=True, env={"PATH": "/nowhere"})
    assert "cargo:rustc-env=BUILD_COMMIT=unknown\n" in done.stdout
