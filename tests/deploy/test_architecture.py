"""The levels that docs/architecture.md draws, compared with the imports of the source."""
import collections
import re

from ..support.processes import PROJECT

SOURCE = PROJECT / "src"


def drawn_levels():
    """Room -> level."""
    text = (PROJECT / "docs" / "architecture.md").read_text()
    drawing = text.split("## Levels")[1].split("```")[1]
    return {room: int(line.split()[0]) for line in drawing.strip().splitlines() for room in line.split()[1:]}


def imports():
    """Room -> the other rooms that it imports, without those of unit tests."""
    found = collections.defaultdict(set)
    for path in SOURCE.rglob("*.rs"):
        room = path.relative_to(SOURCE).with_suffix("").parts[0]
        code = re.sub(r"//.*", "", path.read_text().split("#[cfg(test)]")[0])
        names = re.findall(r"\b(?:crate|callstats)::(\w+)", code)
        for group in re.findall(r"\b(?:crate|callstats)::\{([^;]*)\};", code):
            names += re.findall(r"(?:^|,)\s*(\w+)", group)
        found[room] |= set(names) - {room}
    return found


def test_every_room_is_drawn():
    rooms = {path.stem for path in SOURCE.iterdir()} - {"lib"}
    assert set(drawn_levels()) == rooms


def test_imports_point_to_lower_levels():
    levels, found = drawn_levels(), imports()
    assert len(found["answer"]) >= 4 and "server" in found["main"]
    wrong = {(room, other) for room, others in found.items() if room != "lib"
             for other in others if levels.get(other, 99) >= levels[room]}
    assert wrong == set()
