"""Links, anchors, and the paths of files that the documents name."""
import pathlib
import re
import subprocess

import pytest

from ..support.processes import PROJECT

LISTED = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=PROJECT,
                        capture_output=True, text=True, check=True).stdout.split()
FILES = {name for name in LISTED if (PROJECT / name).exists()}
DOCUMENTS = sorted(name for name in FILES if name.endswith(".md"))


def without_fenced_code(name):
    return re.sub(r"^```.*?^```$", "", (PROJECT / name).read_text(), flags=re.M | re.S)


def prose(name):
    """The text without blocks of code."""
    text = without_fenced_code(name)
    return re.sub(r"(?:^|(?<=\n\n))(?: {4,}.*\n)+", "\n", text)


def anchors(name):
    """The anchors of a document's headings, as GitHub and GitLab form them."""
    headings = re.findall(r"^#+ (.+)$", without_fenced_code(name), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(name):
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose(name)) if not re.match(r"[a-z]+:", target)]


def resolved(name, target):
    path = (PROJECT / name).parent / target if target else PROJECT / name
    return path.resolve().relative_to(PROJECT.resolve()).as_posix()


def test_documents_are_found():
    assert {"README.md", "docs/api.md", "docs/operations.md"} <= set(DOCUMENTS)
    assert "install-by-hand" in anchors("docs/operations.md")
    assert len(links("README.md")) >= 10


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_a_file_and_a_heading(name):
    for link in links(name):
        target, _, anchor = link.partition("#")
        file = resolved(name, target)
        assert file in FILES or any(other.startswith(f"{file}/") for other in FILES), link
        if anchor:
            assert anchor in anchors(file), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_named_paths_exist(name):
    """In code spans: `src/answer.rs`, `deploy/apache/`, `tests/replay/*.replay`; with arguments behind them or not."""
    top = {path.split("/")[0] for path in FILES if "/" in path}
    for span in re.findall(r"`([^`\n]+)`", prose(name)):
        path = span.split()[0].split("#")[0]
        if "/" not in path or path.split("/")[0] not in top or not re.fullmatch(r"[\w./*-]+", path):
            continue
        found = any(pathlib.PurePosixPath(other).match(path.rstrip("/")) or other.startswith(path.rstrip("/") + "/")
                    for other in FILES)
        assert found, span


def test_source_cites_sections_that_exist():
    """Comments cite docs/api.md by the names of its sections."""
    cited = set()
    for file in sorted(FILES):
        if file.endswith((".rs", ".py", ".sql")):
            text = (PROJECT / file).read_text()
            cited |= {(file, section) for section in re.findall(r'docs/api\.md, "(\w[^"]*)"', text)}
    assert len(cited) >= 5
    sections = set(re.findall(r"^#+ (.+)$", (PROJECT / "docs" / "api.md").read_text(), re.M))
    assert {section for _, section in cited} <= sections, cited
