"""The package as it is built for a release: the same bytes in any folder, the list of its crates, and a changelog."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tomllib
import zlib

import pytest

from ..support.processes import PROJECT

# Neither optimization nor link-time optimization has to do with paths and times, and both take minutes.
FAST = {"CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
        "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0"}
CARGO_HOME = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def copy(folder):
    """The sources, without git."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, names.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name, follow_symlinks=False)
    return folder


def build(folder, home):
    """The package of such a copy, with the same crates in a place of its own."""
    home.mkdir(parents=True)
    (home / "registry").symlink_to(CARGO_HOME / "registry")
    environment = os.environ | FAST | {"CARGO_HOME": str(home), "CARGO_NET_OFFLINE": "true", "SOURCE_COMMIT": COMMIT,
                                       "SOURCE_DATE_EPOCH": "1795521600"}
    done = subprocess.run([folder / "deploy" / "build-package"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [package] = (folder / "target" / "package" / "debian").glob("*.deb")
    return package


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Two, of two folders and two users' crates, the second at another time."""
    first, second = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("another-place")
    folders = [copy(first / "callstats"), copy(second / "deeper" / "with a blank")]
    return [build(folder, home) for folder, home in zip(folders, (first / "home", second / "cargo home"), strict=True)]


def executable(package):
    folder = package.parent / "unpacked"
    subprocess.run(["dpkg", "-x", package, folder], check=True)
    return folder / "usr" / "bin" / "callstats"


@pytest.mark.slow
def test_package_has_the_same_bytes_from_another_folder(packages):
    first, second = packages
    if first.read_bytes() != second.read_bytes():
        assert executable(first).read_bytes() == executable(second).read_bytes(), "the executable differs"
        pytest.fail("the package differs, the executable does not")


@pytest.mark.slow
def test_executable_names_no_place_of_its_build(packages):
    for package in packages:
        content = executable(package).read_bytes()
        for place in (str(package.parents[3]), str(package.parents[3].parent), str(CARGO_HOME) + "/"):
            assert place.encode() not in content, place
        out = subprocess.run([executable(package), "--version"], check=True, capture_output=True, text=True).stdout
        assert out.endswith(f" (commit {COMMIT[:12]})\n")


@pytest.mark.slow
def test_executable_lists_its_crates(packages):
    section = packages[0].parent / "crates"
    subprocess.run(["objcopy", "-O", "binary", "--only-section=.dep-v0", "--set-section-flags", ".dep-v0=alloc",
                    executable(packages[0]), section], check=True)
    listed = json.loads(zlib.decompress(section.read_bytes()))["packages"]
    locked = {(package["name"], package["version"])
              for package in tomllib.loads((PROJECT / "Cargo.lock").read_text())["package"]}
    found = {(package["name"], package["version"]) for package in listed}
    assert found <= locked and {"callstats", "fastcgi", "openssl", "tokio-postgres"} <= {name for name, _ in found}


def test_changelog_of_the_package_is_made_from_that_of_the_project():
    made = subprocess.run([PROJECT / ".ci" / "debian-changelog"], check=True, capture_output=True, text=True).stdout
    assert (PROJECT / "deploy" / "debian" / "changelog").read_text() == made
    parsed = subprocess.run(["dpkg-parsechangelog", "--all", "-l", "-", "--format", "rfc822"], input=made, check=True,
                            capture_output=True, text=True)
    assert parsed.stderr == ""
    released = re.findall(r"^## \[(\d[\d.]*)\] - ", (PROJECT / "CHANGELOG.md").read_text(), re.M)
    assert re.findall(r"^Version: ([\d.]+)-1$", parsed.stdout, re.M) == released
    assert tomllib.loads((PROJECT / "Cargo.toml").read_text())["package"]["version"] == released[0]
