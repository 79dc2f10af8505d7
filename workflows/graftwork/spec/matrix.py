"""`matrix`: one stage written, one made for every combination of values.

    base:
      matrix: {lr: [1e-3, 3e-3]}
      train: {..., schedule: {name: cosine, peak: "${lr}"}}

makes `base-lr-1e-3` and `base-lr-3e-3`. A stage that names `base` fans out with it, and may use
`${lr}` too; where it depends on two fanned-out stages, it is made for every combination in which
variables of one name have one value. A `compare` does not fan out with its arms: an arm that
names a fanned-out stage becomes one arm per variant. `base[lr=1e-3]` names one variant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from math import prod

from graftwork.errors import Problem, SpecError
from graftwork.spec.base import NAME_LENGTH
from graftwork.spec.graph import sort
from graftwork.spec.names import circle_problem
from graftwork.spec.nodes import MAX_VALUES, Node, Spot, mapping
from graftwork.spec.problems import near, shown
from graftwork.spec.variables import (
    ARMS,
    Bindings,
    Named,
    named_stages,
    path_to,
    rename,
    substitute,
    texts_with_dollars,
    used_variables,
)

MATRIX = "matrix"
MAX_STAGES = 1000
# A further seed adds a suffix such as `-s18`; leave it room.
_NAME_ROOM = NAME_LENGTH - 4


def expand(root: Node, problems: list[Problem]) -> tuple[Node, dict[str, str]]:
    """The tree with every `matrix` expanded, and for each new stage the one it was written as.

    Raises:
        SpecError: the stages form a circle, or the expansion grows beyond its limits; with the
            problems that were there already.
    """
    stages = root.value.get("stages") if isinstance(root.value, dict) else None
    if not isinstance(root.value, dict) or stages is None or not isinstance(stages.value, dict):
        return root, {}
    expansion = _Expansion(stages, problems)
    if not expansion.needed():
        return root, {}
    items = {**root.value, "stages": expansion.expanded()}
    return mapping(items, root.keys, root.spot), expansion.origins


class _Expansion:
    """One expansion of all stages.

    Attributes:
        variants: By stage as written, the name and bindings of every stage made from it.
        origins: By new name, the name as written.
    """

    def __init__(self, stages: Node, problems: list[Problem]) -> None:
        self.stages: dict[str, Node] = stages.value if isinstance(stages.value, dict) else {}
        self.node = stages
        self.problems = problems
        self.variants: dict[str, list[tuple[str, Bindings]]] = {}
        self.origins: dict[str, str] = {}
        self.taken = set(self.stages)
        self.made = 0

    def needed(self) -> bool:
        """Whether any stage has a matrix, a variable or a selected variant."""
        return any(
            (isinstance(stage.value, dict) and MATRIX in stage.value)
            or any(named.values for named in named_stages(stage))
            or next(texts_with_dollars(stage), None) is not None
            for stage in self.stages.values()
        )

    def expanded(self) -> Node:
        """All stages, in the order they were written, variants side by side."""
        names = {name: list(named_stages(stage)) for name, stage in self.stages.items()}
        order, circles = sort({k: [named.stage for named in v] for k, v in names.items()})
        for circle in circles:
            self._circle(circle, names[circle[0]])
        made: dict[str, list[tuple[str, Node]]] = {}
        for name in order:
            made[name] = list(self._stage(name, names[name]))
        if circles:
            raise SpecError(self.problems)
        items: dict[str, Node] = {}
        keys: dict[str, Spot] = {}
        for name in self.stages:
            for new, stage in made[name]:
                items[new], keys[new] = stage, self.node.keys[name]
        return mapping(items, keys, self.node.spot)

    def _problem(self, spot: Spot, key: str, what: str, remedy: str) -> None:
        self.problems.append(Problem(spot.where(f"stages.{key}"), what, remedy))

    def _circle(self, circle: list[str], named: list[Named]) -> None:
        node = next(item.node for item in named if item.stage == circle[1])
        what, remedy = circle_problem(circle)
        self._problem_at(circle[0], node, what, remedy)

    def _problem_at(self, name: str, node: Node, what: str, remedy: str) -> None:
        path = path_to(self.stages[name], node) or []
        self._problem(node.spot, ".".join([name, *path]), what, remedy)

    def _stage(self, name: str, named: list[Named]) -> Iterator[tuple[str, Node]]:
        """The stages that are made from one, and their names."""
        raw = self.stages[name]
        stage = _without_matrix(raw)
        own = self._own(name, raw)
        combinations = self._joined(name, own, [item for item in named if not item.arm])
        self._check_variables(name, stage, own, combinations)
        self._count(name, len(combinations), raw)
        self.variants[name] = []
        for number, bindings in enumerate(combinations, 1):
            new = self._new_name(name, bindings, number)
            self.variants[name].append((new, bindings))
            if new != name:
                self.origins[new] = name
            yield new, self._made(name, stage, bindings)

    def _made(self, name: str, stage: Node, bindings: Bindings) -> Node:
        renamed = rename(stage, lambda named: self._one(name, named, bindings))
        return substitute(self._with_arms(name, renamed, bindings), bindings)

    def _own(self, name: str, raw: Node) -> dict[str, list[Node]]:
        """The stage's own matrix, without what is wrong in it."""
        if not isinstance(raw.value, dict) or MATRIX not in raw.value:
            return {}
        node, key = raw.value[MATRIX], f"{name}.{MATRIX}"
        if not isinstance(node.value, dict) or not node.value:
            what = f"a mapping is due, and this is {shown(node.value or None)}"
            remedy = "Write variables with lists of values, for example '{lr: [1e-3, 3e-3]}'."
            self._problem(raw.keys[MATRIX], key, what, remedy)
            return {}
        found = {}
        for variable, values in node.value.items():
            fault = _fault(variable, values)
            if fault:
                self._problem(node.keys[variable], f"{key}.{variable}", *fault)
            elif isinstance(values.value, list):
                found[variable] = values.value
        return found

    def _joined(self, name: str, own: dict[str, list[Node]], named: list[Named]) -> list[Bindings]:
        """Every combination of the variants that the stage refers to, and of its own values."""
        self._limit(name, prod(len(values) for values in own.values()))
        joined: list[Bindings] = [{}]
        for item in named:
            # What the reference itself chooses does not fan the stage out.
            chosen = {key for key, _ in item.values}
            found = [
                {key: node for key, node in bindings.items() if key not in chosen}
                for _, bindings in self._selected(name, item)
            ]
            if found:
                joined = self._join(name, joined, found) or self._apart(name, item, joined)
        combinations = (dict(zip(own, values, strict=True)) for values in product(*own.values()))
        if not own:
            return joined
        return self._join(name, joined, combinations) or self._shadowed(name, own, joined)

    def _join(self, name: str, left: list[Bindings], right: Iterable[Bindings]) -> list[Bindings]:
        """All pairs in which variables of one name have one value."""
        others = list(right)
        joined = _unique({**one, **other} for one in left for other in others if _agree(one, other))
        self._limit(name, len(joined))
        return joined

    def _apart(self, name: str, item: Named, joined: list[Bindings]) -> list[Bindings]:
        """Notes that what a stage refers to has no values in common, and goes on without."""
        variant = self.variants[item.stage][0][1]
        shared = " and ".join(repr(key) for key in variant if key in joined[0])
        what = f"no variant of {item.stage!r} has the value of {shared} that is used here"
        remedy = f"Name one, for example {_example(item.stage, [variant])}, or rename a variable."
        self._problem_at(name, item.node, what, remedy)
        return joined[:1]

    def _shadowed(
        self, name: str, own: dict[str, list[Node]], joined: list[Bindings]
    ) -> list[Bindings]:
        """Notes that a stage's matrix gives other values to a variable that it takes over."""
        key = next(key for key in own if key in joined[0])
        known = dict.fromkeys(bindings[key].text for bindings in joined)
        what = f"{key!r} has other values in a stage that is named here: {', '.join(known)}"
        remedy = "Give the variable another name, or one of these values."
        self._problem(own[key][0].spot, f"{name}.{MATRIX}.{key}", what, remedy)
        return [{**joined[0], **{key: values[0] for key, values in own.items()}}]

    def _limit(self, name: str, count: int) -> None:
        if count > MAX_STAGES:
            what = f"this makes {count:,} stages, and a workflow may have {MAX_STAGES:,}"
            self._problem(self.node.keys[name], name, what, "Give the matrix fewer values.")
            raise SpecError(self.problems)

    def _count(self, name: str, count: int, raw: Node) -> None:
        self.made += count * raw.size
        total = sum(len(made) for made in self.variants.values()) + count
        self._limit(name, total)
        if self.made > MAX_VALUES:
            what = f"with this matrix the workflow holds more than {MAX_VALUES:,} values"
            self._problem(self.node.keys[name], name, what, "Give the matrix fewer values.")
            raise SpecError(self.problems)

    def _selected(self, name: str, named: Named) -> list[tuple[str, Bindings]]:
        """The variants of a stage that a reference names; none if it is not fanned out."""
        variants = self.variants.get(named.stage, [])
        if not named.values:
            return variants if any(bindings for _, bindings in variants) else []
        found = [
            (new, bindings) for new, bindings in variants
            if all(key in bindings and _same(bindings[key], value) for key, value in named.values)
        ]  # fmt: skip
        if not found and named.stage in self.stages:
            bound = [bindings for _, bindings in variants if bindings]
            what = f"{named.stage!r} has no variant {str(named.node.value)!r}"
            remedy = f"Write for example {_example(named.stage, bound)}." if bound else (
                f"Write {named.stage!r}; it has no matrix."
            )  # fmt: skip
            self._problem_at(name, named.node, what, remedy)
        return found

    def _one(self, name: str, named: Named, bindings: Bindings) -> str:
        """The name of the variant that a reference means, given the values of its own stage."""
        if named.stage not in self.variants:
            return named.stage
        fitting = [
            new for new, others in self.variants[named.stage]
            if all(k in others and _same(others[k], v) for k, v in named.values)
            and _agree(bindings, others)
        ]  # fmt: skip
        # Where none fits, that has been noted; any variant keeps the later checks quiet.
        return fitting[0] if fitting else self.variants[named.stage][0][0]

    def _with_arms(self, name: str, stage: Node, bindings: Bindings) -> Node:
        """A compare stage with one arm for every variant that an arm names."""
        compare = stage.value.get("compare") if isinstance(stage.value, dict) else None
        arms = compare.value.get(ARMS) if compare and isinstance(compare.value, dict) else None
        if arms is None or not isinstance(arms.value, dict):
            return stage
        targets = {id(item.node): item for item in named_stages(stage) if item.arm}
        items: dict[str, Node] = {}
        keys: dict[str, Spot] = {}
        for label, node in arms.value.items():
            for new_label, new in self._arm(name, label, targets.get(id(node)), bindings):
                items[new_label] = Node(new, node.spot, text=new) if new else node
                keys[new_label] = arms.keys[label]
        return _put(stage, ("compare", ARMS), mapping(items, keys, arms.spot))

    def _arm(
        self, name: str, label: str, named: Named | None, bindings: Bindings
    ) -> list[tuple[str, str]]:
        """The labels that an arm becomes, each with its stage; an empty stage leaves the arm."""
        if named is None:
            return [(label, "")]
        found = self._selected(name, named)
        fitting = [(new, others) for new, others in found if _agree(bindings, others)]
        if not fitting:
            return [(label, "")]
        chosen = {*bindings, *(key for key, _ in named.values)}
        free = [key for key in _all_keys(others for _, others in fitting) if key not in chosen]
        return [(_suffixed(label, others, free), new) for new, others in fitting]

    def _new_name(self, name: str, bindings: Bindings, number: int) -> str:
        """A readable name that is free: with the values, or with a number where that is long."""
        if not bindings:
            return name
        new = _suffixed(name, bindings, bindings).lower().replace("_", "-")
        if len(new) > _NAME_ROOM or new in self.taken:
            new = f"{name[: _NAME_ROOM - 5].rstrip('-')}-{number}"
        while new in self.taken:
            number += 1
            new = f"{name[: _NAME_ROOM - 5].rstrip('-')}-{number}"
        self.taken.add(new)
        return new

    def _check_variables(
        self, name: str, stage: Node, own: dict[str, list[Node]], found: list[Bindings]
    ) -> None:
        used = list(used_variables(stage))
        known = {*own, *(found[0] if found else {})}
        for variable, node in used:
            if variable in known:
                continue
            likely = near(variable, known)
            remedy = f"Did you mean '${{{likely}}}'?" if likely else (
                f"Its variables are: {', '.join(sorted(known))}." if known else
                f"Give the stage a matrix: 'matrix: {{{variable or 'lr'}: [...]}}'."
            )  # fmt: skip
            what = f"there is no variable {variable!r} here"
            self._problem_at(name, node, what, remedy)
        for variable, values in own.items():
            if variable not in {name for name, _ in used}:
                what = f"the variable {variable!r} is not used in the stage"
                remedy = f"Write '${{{variable}}}' where its value belongs."
                self._problem(values[0].spot, f"{name}.{MATRIX}.{variable}", what, remedy)


def _without_matrix(stage: Node) -> Node:
    if not isinstance(stage.value, dict) or MATRIX not in stage.value:
        return stage
    items = {key: value for key, value in stage.value.items() if key != MATRIX}
    return mapping(items, stage.keys, stage.spot)


def _put(node: Node, path: tuple[str, ...], value: Node) -> Node:
    """The tree with the value at a path of keys replaced."""
    if not path or not isinstance(node.value, dict):
        return value
    items = {**node.value, path[0]: _put(node.value[path[0]], path[1:], value)}
    return mapping(items, node.keys, node.spot)


def _fault(variable: str, values: Node) -> tuple[str, str] | None:
    """What is wrong with one variable of a matrix, and what to do."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", variable):
        return (
            f"{variable!r} is not a name for a variable",
            "Use letters, digits and '_', beginning with a letter.",
        )
    if not isinstance(values.value, list) or not values.value:
        what = f"a list of values is due, and this is {shown(values.value or None)}"
        return what, f"Write for example '{variable}: [1, 2]'."
    if any(isinstance(item.value, list | dict) or item.value is None for item in values.value):
        return (
            "a value of a matrix is a text or a number, and one of these is not",
            "Write out what lists and mappings are for, with one variable each.",
        )
    texts = [item.text for item in values.value]
    if len(set(texts)) < len(texts):
        return "a value stands here twice", "Give every value once."
    return None


def _same(node: Node, text: str) -> bool:
    """Whether a value of a matrix is the one that a reference names."""
    if node.text == text.strip("'\""):
        return True
    try:
        return isinstance(node.value, int | float) and float(text) == node.value
    except ValueError:
        return False


def _agree(left: Bindings, right: Bindings) -> bool:
    """Whether variables of one name have one value."""
    return all(right[key].value == node.value for key, node in left.items() if key in right)


def _unique(found: Iterable[Bindings]) -> list[Bindings]:
    """Bindings without repetitions, in their order."""
    seen: dict[tuple[tuple[str, str], ...], Bindings] = {}
    for bindings in found:
        key = tuple(sorted((name, node.text) for name, node in bindings.items()))
        if key not in seen and len(seen) > MAX_STAGES:
            break
        seen.setdefault(key, bindings)
    return list(seen.values())


def _all_keys(found: Iterable[Bindings]) -> list[str]:
    return list(dict.fromkeys(key for bindings in found for key in bindings))


def _suffixed(name: str, bindings: Bindings, keys: Iterable[str]) -> str:
    """`name-lr-1e-3`: a name with the values that belong to `keys`."""
    parts = [name]
    for key in keys:
        if key in bindings:
            value = re.sub(r"[^A-Za-z0-9]+", "-", bindings[key].text).strip("-")
            parts += [key, value] if value else [key]
    return "-".join(parts)


def _example(stage: str, found: list[Mapping[str, Node]]) -> str:
    """How to name one variant."""
    values = ",".join(f"{key}={node.text}" for key, node in found[0].items()) if found else ""
    return f"'{stage}[{values}]'"
