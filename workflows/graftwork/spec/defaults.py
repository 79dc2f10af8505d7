"""`defaults`: what stages of a kind have in common, written once.

`defaults.train` holds for every `train` stage, `defaults.training` for every stage that trains
(train, continue, sparsify, densify). A stage's own keys come first, then its kind's, then
`training`'s; mappings are merged as in an overlay.
"""

from __future__ import annotations

from graftwork.errors import Problem
from graftwork.spec.nodes import Node, mapping
from graftwork.spec.overlay import merge
from graftwork.spec.place import fields
from graftwork.spec.problems import shown, suggestion
from graftwork.spec.stages import KINDS, StageBody, Training

DEFAULTS = "defaults"
TRAINING = "training"
SECTIONS: dict[str, type[StageBody]] = {**KINDS, TRAINING: Training}


def apply_defaults(root: Node, problems: list[Problem]) -> Node:
    """The tree without `defaults`, each stage with its kind's; problems are added to the list."""
    if not isinstance(root.value, dict) or DEFAULTS not in root.value:
        return root
    items, keys = dict(root.value), dict(root.keys)
    sections = _sections(items.pop(DEFAULTS), keys.pop(DEFAULTS), problems)
    stages = items.get("stages")
    if stages is not None and isinstance(stages.value, dict):
        filled = {name: _filled(stage, sections) for name, stage in stages.value.items()}
        items["stages"] = mapping(filled, stages.keys, stages.spot)
    return mapping(items, keys, root.spot)


def _sections(defaults: Node, spot: object, problems: list[Problem]) -> dict[str, Node]:
    """The defaults by kind, without what no stage of the kind could have."""
    if defaults.value is None:
        return {}
    if not isinstance(defaults.value, dict):
        what = f"a mapping is due, and this is {shown(defaults.value)}"
        remedy = f"Write kinds of stages below it: {', '.join(SECTIONS)}."
        problems.append(Problem(defaults.spot.where(DEFAULTS), what, remedy))
        return {}
    found = {}
    for kind, section in defaults.value.items():
        where = defaults.keys[kind].where(f"{DEFAULTS}.{kind}")
        if kind not in SECTIONS:
            remedy = suggestion(kind, list(SECTIONS), "Known kinds")
            problems.append(Problem(where, f"unknown kind of stage {kind!r}", remedy))
        elif isinstance(section.value, dict):
            found[kind] = _known(kind, section, problems)
        elif section.value is not None:
            what = f"a mapping is due, and this is {shown(section.value)}"
            problems.append(Problem(where, what, f"Write keys of a {kind} stage below it."))
    return found


def _known(kind: str, section: Node, problems: list[Problem]) -> Node:
    """The section's entries that stages of the kind can have."""
    allowed = list(fields(SECTIONS[kind]))
    items = {}
    for key, value in section.value.items() if isinstance(section.value, dict) else ():
        if key in allowed:
            items[key] = value
        else:
            where = section.keys[key].where(f"{DEFAULTS}.{kind}.{key}")
            remedy = suggestion(key, allowed, "Known keys")
            problems.append(Problem(where, f"unknown key {key!r}", remedy))
    return mapping(items, section.keys, section.spot)


def _filled(stage: Node, sections: dict[str, Node]) -> Node:
    """A stage with its defaults below its own keys."""
    if not isinstance(stage.value, dict):
        return stage
    items = dict(stage.value)
    for kind, body in stage.value.items():
        if kind not in KINDS or not isinstance(body.value, dict):
            continue
        sources = [sections[TRAINING]] if _trains(kind) and TRAINING in sections else []
        sources += [sections[kind]] if kind in sections else []
        filled = body
        for source in reversed(sources):
            filled = merge(source, filled)
        items[kind] = filled
    return mapping(items, stage.keys, stage.spot)


def _trains(kind: str) -> bool:
    return issubclass(KINDS[kind], Training)
