"""The levels that docs/architecture.md draws, compared with the imports of the source; modules without cycles."""
import collections
import graphlib
import re

from ..support.processes import PROJECT

SOURCE = PROJECT / "src"


def drawn_levels():
    """Room -> level."""
    text = (PROJECT / "docs" / "architecture.md").read_text()
    drawing = text.split("## Levels")[1].split("```")[1]
    return {room: int(line.split()[0]) for line in drawing.strip().splitlines() for room in line.split()[1:]}


def module(path):
    """Such as ("admin", "load", "row")."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "mod" else parts


def code(path):
    """Without comments and unit tests."""
    return re.sub(r"//.*", "", path.read_text().split("#[cfg(test)]")[0])


def imports():
    """Room -> the other rooms that it imports."""
    found = collections.defaultdict(set)
    for path in SOURCE.rglob("*.rs"):
        room = module(path)[0]
        names = re.findall(r"\b(?:crate|callstats)::(\w+)", code(path))
        for group in re.findall(r"\b(?:crate|callstats)::\{([^;]*)\};", code(path)):
            names += re.findall(r"(?:^|,)\s*(\w+)", group)
        found[room] |= set(names) - {room}
    return found


def expanded(path):
    """The paths of a `use`, which may have groups in groups: `a::{b, c::{d, e}}`."""
    start, brace, rest = path.partition("{")
    if not brace:
        return [path.strip()]
    depth, item, items = 0, "", []
    for character in rest.rpartition("}")[0] + ",":
        depth += (character == "{") - (character == "}")
        if character == "," and not depth:
            items.append(item)
            item = ""
        else:
            item += character
    return [whole for item in items if item.strip() for whole in expanded(start.strip() + item.strip())]


def module_imports():
    """Module -> the modules that it imports. A module and those inside of it are one unit, split for its readers."""
    paths = {module(path): path for path in SOURCE.rglob("*.rs") if path.name not in ("main.rs", "lib.rs")}
    found = {name: set() for name in paths}
    for name, path in paths.items():
        for used in re.findall(r"\buse\s+(crate::[^;]+);", code(path)) + re.findall(r"\bcrate::[\w:]+", code(path)):
            for one in expanded(used):
                parts = tuple(one.split("::")[1:])
                target = next((parts[:end] for end in range(len(parts), 0, -1) if parts[:end] in paths), None)
                if target and name[:len(target)] != target and target[:len(name)] != name:
                    found[name].add(target)
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


def test_modules_form_no_cycle():
    found = module_imports()
    assert ("admin", "load", "value") in found["admin", "load", "condition"]
    graphlib.TopologicalSorter(found).prepare()  # raises CycleError with the modules of the cycle
