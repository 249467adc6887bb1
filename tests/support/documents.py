"""The commands that the documents print: blocks that are indented or fenced, as they stand."""
import dataclasses
import re

from .processes import PROJECT

DOCUMENTS = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md"))]

PROGRAMS = r"(callstats |sudo|podman |install |spawn-fcgi|curl|cargo|echo|openssl|deploy/|tests/|fuzz/|\.ci/)"
SQL = r"(select|set|alter|insert|update|delete|create|drop|call) "
# Lines of blocks that print something else: answers, log lines, headers, a URL, CSV.
OUTPUT = (
    r"(callstats: |calls\.csv: |Zeit;|\d\d\.\d\d\.\d{4} "
    r"|\[|\{|\"calls\"|X-|Content-|Referrer-|Cache-|/stats/|date,folder|\d{4}-)"
)


@dataclasses.dataclass(frozen=True)
class Block:
    document: str
    heading: str
    text: str

    def commands(self):
        """Each command with its continued lines, and without a comment behind it."""
        lines = re.sub(r"\\\n\s*", "\\\n", self.text).splitlines()
        joined, current = [], ""
        for line in lines:
            current += line
            if line.endswith("\\"):
                current += "\n"
                continue
            joined.append(re.sub(r"\s{2,}# .*$", "", current))
            current = ""
        return [command for command in joined if command.strip()]


def blocks(document):
    """Of a document, in order. Languages of fenced blocks other than none are not for a shell."""
    found, heading = [], ""
    lines = (PROJECT / document).read_text().splitlines()
    at, in_list = 0, False
    while at < len(lines):
        line = lines[at]
        if line.startswith("```"):
            end = next(n for n in range(at + 1, len(lines)) if lines[n].startswith("```"))
            at = end + 1
            continue
        if line.startswith("#"):
            heading, in_list = line.lstrip("# "), False
        elif re.match(r"(\d+\.|[-*]) ", line):
            in_list = True
        elif line and not line.startswith(" "):
            in_list = False
        indent = re.match(r" *", line).end()
        if line.strip() and indent >= (6 if in_list else 4) and not lines[at - 1].strip():
            end = at
            while end < len(lines) and lines[end].startswith(" " * indent):
                end += 1
            found.append(Block(document, heading, "\n".join(text[indent:] for text in lines[at:end])))
            at = end
            continue
        at += 1
    return found


def kind(command):
    """What a line is: a command, SQL or output."""
    for name, pattern in (("command", PROGRAMS), ("sql", SQL), ("output", OUTPUT)):
        if re.match(pattern, command.strip()):
            return name
    return None


def printed():
    """(block, command) for each line that is for a shell or for psql."""
    for document in DOCUMENTS:
        for block in blocks(document):
            for command in block.commands():
                yield block, command


def packages():
    """Debian's packages that the documents install."""
    installing = [command.split()[3:] for _, command in printed() if command.startswith("sudo apt install ")]
    return sorted({word for words in installing for word in words if not word.startswith("./")})


def section(document, heading):
    """The blocks below a heading."""
    found = [block for block in blocks(document) if block.heading == heading]
    assert found, f"{document} has no block below {heading}"
    return found
