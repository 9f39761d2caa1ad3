"""What another team could trip over when a released schema changes.

Version 1 of a schema may gain optional fields, branches (types, kinds of
entries) and values of open enums, and its limits may be loosened. Everything
else belongs into version 2, a new file. Keywords that cannot be compared
(``not``, ``pattern``) have to stay as they are; keywords that this module does
not know count as breaking as soon as they change: a doubt is a finding.

An open enum is a string with the annotation ``x-open-enum``: a list of the
values known today. A plain ``enum`` is closed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

Json: TypeAlias = Any
Tag: TypeAlias = tuple[str, str]

ANNOTATIONS: Final = frozenset({"$schema", "$id", "$defs", "$comment", "title", "description", "examples"})
UPPER: Final = frozenset({"maxLength", "maxItems", "maxProperties", "maximum", "exclusiveMaximum"})
LOWER: Final = frozenset({"minLength", "minItems", "minProperties", "minimum", "exclusiveMinimum"})
UNIONS: Final = frozenset({"anyOf", "oneOf"})
# keyword -> schema by name
MAPS: Final = frozenset({"properties", "patternProperties"})
# keywords that hold one schema for whatever is there
EACH: Final = frozenset({"items", "additionalProperties", "propertyNames"})
JUDGED: Final = (
    UPPER | LOWER | UNIONS | MAPS | EACH | {"required", "enum", "x-open-enum", "type", "prefixItems", "kept"}
)
ALL_TYPES: Final = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})
WIDER: Final = {"number": ("number", "integer")}
# what others send to us: there, to ask for less is to loosen a limit; in what we send, it is a broken promise
INPUTS: Final = ("urn:journey:schema:events.", "urn:journey:schema:journey.control.")


def incompatibilities(old: dict[str, Json], new: dict[str, Json]) -> list[str]:
    """Return what in ``new`` breaks a promise of ``old``, a sentence each; empty if nothing does.

    Both are JSON Schema 2020-12 documents whose ``$ref`` all point into
    themselves. Where a definition stands, what it is called and how it is
    split over ``allOf`` and ``$ref`` does not matter.

    Raises
    ------
    KeyError
        A ``$ref`` points to nothing.

    Examples
    --------
    >>> incompatibilities({"maxLength": 100}, {"maxLength": 255})
    []
    >>> incompatibilities({"maxLength": 100}, {"maxLength": 99})
    ['/: maxLength became tighter: 100 -> 99']
    """
    found = [
        f"/: {keyword} changed: {old.get(keyword)} -> {new.get(keyword)}"
        for keyword in ("$schema", "$id")
        if old.get(keyword) != new.get(keyword)
    ]
    found += _Comparison(old, new).differences(old, new, "")
    return list(dict.fromkeys(found))


class _Comparison:
    """Two documents side by side; their own ``$ref`` resolve in each."""

    def __init__(self, old: dict[str, Json], new: dict[str, Json]) -> None:
        self.old, self.new = old, new
        self.is_input = str(old.get("$id", "")).startswith(INPUTS)
        self.open_pairs: set[str] = set()

    def differences(self, old: Json, new: Json, path: str) -> list[str]:
        """Return what breaks below ``path``; a pair that is being compared further up is left to that comparison."""
        pair = _canonical([old, new])
        if pair in self.open_pairs:
            return []
        self.open_pairs.add(pair)
        try:
            return list(self._differences(old, new, path))
        finally:
            self.open_pairs.discard(pair)

    def _differences(self, old: Json, new: Json, path: str) -> Iterator[str]:
        was, now = flat(old, self.old), flat(new, self.new)
        at = path or "/"
        types_were, types_are = types_of(old, self.old), types_of(new, self.new)
        # absent, null and "" mean the same: whether a field may be absent is ``required``'s business
        if types_were - {"null"} != types_are - {"null"} or types_were - types_are:
            yield f"{at}: retyped: {_words(types_were)} -> {_words(types_are)}"
            return
        yield from self._required(was, now, at)
        yield from _limits(was, now, at)
        yield from _enums(was, now, at)
        yield from self._children(was, now, path)
        for union in sorted(UNIONS):
            yield from self._unions(was.get(union, []), now.get(union, []), f"{path}/{union}")
        for keyword in sorted((was.keys() | now.keys()) - JUDGED):
            if was.get(keyword) != now.get(keyword):
                yield f"{at}: {keyword} changed: {was.get(keyword)} -> {now.get(keyword)}"
        # a pattern that is gone accepts more; one that is new or another may accept less
        for keyword, value in now.get("kept", []):
            if (keyword, value) not in was.get("kept", []):
                yield f"{at}: {keyword} is new or changed: {value}"
        for keyword, value in was.get("kept", []):
            if not self.is_input and (keyword, value) not in now.get("kept", []):
                yield f"{at}: {keyword} is no longer promised: {value}"

    def _required(self, was: dict[str, Json], now: dict[str, Json], at: str) -> Iterator[str]:
        before, after = set(was.get("required", ())), set(now.get("required", ()))
        for name in sorted(after - before):
            yield f"{at}: newly required: {name}"
        if self.is_input:
            return
        for name in sorted(before - after):
            yield f"{at}: no longer always there: {name}"
        for name in sorted(before & after & was.get("properties", {}).keys() & now.get("properties", {}).keys()):
            had = types_of(was["properties"][name], self.old)
            has = types_of(now["properties"][name], self.new)
            if "null" in has - had:
                yield f"{at}: no longer always there: {name} may be null"

    def _children(self, was: dict[str, Json], now: dict[str, Json], path: str) -> Iterator[str]:
        for keyword in sorted(MAPS):
            before, after = was.get(keyword, {}), now.get(keyword, {})
            for name in before:
                if name in after:
                    yield from self.differences(before[name], after[name], f"{path}/{name}")
                else:
                    yield f"{path}/{name}: removed"
        rest = was.get("additionalProperties", True)
        for name, schema in now.get("properties", {}).items():
            # a field that got a name: so far it only had to be what every other field has to be
            if name not in was.get("properties", {}) and not isinstance(rest, bool):
                yield from self.differences(rest, schema, f"{path}/{name}")
        for keyword in sorted(EACH):
            if was.get(keyword, True) is not False:
                yield from self.differences(was.get(keyword, True), now.get(keyword, True), f"{path}/{keyword}")
        before, after = was.get("prefixItems", []), now.get("prefixItems", [])
        if len(before) != len(after):
            yield f"{path or '/'}: prefixItems changed: {len(before)} -> {len(after)} places"
        for place, (first, second) in enumerate(zip(before, after, strict=False)):
            yield from self.differences(first, second, f"{path}/{place}")

    def _unions(self, before: list[list[Json]], after: list[list[Json]], path: str) -> Iterator[str]:
        if len(after) > len(before):
            yield f"{path}: a choice was added where there was none"
        for index, branches in enumerate(before):
            if index < len(after):
                yield from self._branches(branches, after[index], path)
            else:
                yield f"{path}: branch removed: all {len(branches)}"

    def _branches(self, before: list[Json], after: list[Json], path: str) -> Iterator[str]:
        tagged = {tag: branch for branch in after if (tag := tag_of(branch, self.new))}
        for index, branch in enumerate(before):
            tag = tag_of(branch, self.old)
            if tag and tag in tagged:
                yield from self.differences(branch, tagged[tag], f"{path}[{tag[1]}]")
            elif tag:
                yield f"{path}: branch removed: {tag[1]}"
            elif not any(not self.differences(branch, other, path) for other in after):
                if index < len(after):
                    yield from self.differences(branch, after[index], f"{path}[{index}]")
                else:
                    yield f"{path}: branch removed: number {index + 1}"
        # without a tag a reader cannot tell a new branch from the ones it knows
        if not self.is_input and not tagged and len(after) > len(before):
            yield f"{path}: branch added that nothing tells apart"


def _limits(was: dict[str, Json], now: dict[str, Json], at: str) -> Iterator[str]:
    for keywords, sign in ((UPPER, 1), (LOWER, -1)):
        for keyword in sorted(keywords & now.keys()):
            if keyword not in was:
                yield f"{at}: {keyword} is new: {now[keyword]}"
            elif sign * now[keyword] < sign * was[keyword]:
                yield f"{at}: {keyword} became tighter: {was[keyword]} -> {now[keyword]}"


def _enums(was: dict[str, Json], now: dict[str, Json], at: str) -> Iterator[str]:
    before, after = ({_canonical(value) for value in view.get("enum", ())} for view in (was, now))
    if ("enum" in was) != ("enum" in now):
        yield f"{at}: enum is {'gone' if 'enum' in was else 'new'}"
    else:
        yield from (f"{at}: enum value removed: {value}" for value in sorted(before - after))
        yield from (f"{at}: value added to a closed enum: {value}" for value in sorted(after - before))
    if "x-open-enum" in was and "x-open-enum" not in now:
        yield f"{at}: open enum is gone"
    else:
        lost = set(was.get("x-open-enum", ())) - set(now.get("x-open-enum", ()))
        yield from (f"{at}: enum value removed: {value}" for value in sorted(lost))


def resolve(reference: str, document: dict[str, Json]) -> Json:
    """Return what a JSON pointer such as ``#/$defs/item`` means inside its document.

    Raises
    ------
    KeyError
        It points to nothing, or out of the document.
    """
    if not reference.startswith("#"):
        raise KeyError(reference)
    node: Json = document
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        node = node[int(name)] if isinstance(node, list) else node[name]
    return node


def flat(schema: Json, document: dict[str, Json]) -> dict[str, Json]:
    """Return one level of a schema with ``$ref`` and ``allOf`` folded in.

    ``const`` becomes an ``enum`` of one; ``anyOf`` and ``oneOf`` become lists
    of unions, all of which hold; what can only be kept or dropped (``pattern``,
    ``format``, ``not``) is listed under ``kept``.
    """
    if schema is True:
        return {}
    if schema is False:
        return {"enum": []}
    result: dict[str, Json] = {}
    for keyword, value in schema.items():
        if keyword in ANNOTATIONS:
            continue
        if keyword == "$ref":
            _fold_in(result, flat(resolve(value, document), document))
        elif keyword == "allOf":
            for part in value:
                _fold_in(result, flat(part, document))
        elif keyword == "const":
            _fold_in(result, {"enum": [value]})
        elif keyword in UNIONS:
            _fold_in(result, {keyword: [value]})
        elif keyword in {"pattern", "format", "not"}:
            _fold_in(result, {"kept": [(keyword, _canonical(value))]})
        else:
            _fold_in(result, {keyword: value})
    return result


def _fold_in(result: dict[str, Json], more: dict[str, Json]) -> None:
    """Make ``result`` say what both say: where two limits meet, the tighter one counts."""
    for keyword, value in more.items():
        if keyword not in result:
            result[keyword] = dict(value) if keyword in MAPS else value
            continue
        mine = result[keyword]
        if keyword in MAPS:
            for name, schema in value.items():
                mine[name] = _both(mine[name], schema) if name in mine else schema
        elif keyword in EACH:
            result[keyword] = _both(mine, value)
        elif keyword in UPPER:
            result[keyword] = min(mine, value)
        elif keyword in LOWER:
            result[keyword] = max(mine, value)
        elif keyword in UNIONS | {"kept", "required"}:
            result[keyword] = mine + [item for item in value if item not in mine]
        elif keyword == "enum":
            result[keyword] = [item for item in mine if item in value]
        elif keyword == "type":
            result[keyword] = [name for name in _listed(mine) if name in _listed(value)]
        elif mine != value:
            result[keyword] = ["both", mine, value]


def _both(first: Json, second: Json) -> Json:
    return first if first == second else {"allOf": [first, second]}


def types_of(schema: Json, document: dict[str, Json]) -> frozenset[str]:
    """Return the JSON types that a schema lets through; an empty string counts as null: both mean absent."""
    if isinstance(schema, bool):
        return ALL_TYPES if schema else frozenset()
    types = ALL_TYPES
    for keyword, value in schema.items():
        if keyword == "$ref":
            types &= types_of(resolve(value, document), document)
        elif keyword == "type":
            types &= {accepted for name in _listed(value) for accepted in WIDER.get(name, (name,))}
        elif keyword == "allOf":
            for part in value:
                types &= types_of(part, document)
        elif keyword in UNIONS:
            types &= frozenset[str]().union(*(types_of(branch, document) for branch in value))
        elif keyword in {"const", "enum"}:
            types &= {_type_of(item) for item in ([value] if keyword == "const" else value)}
    return types


def tag_of(branch: Json, document: dict[str, Json]) -> Tag | None:
    """Return the field and the only value by which a branch is told apart (``type``, ``k``), if it has one."""
    for name, schema in sorted(flat(branch, document).get("properties", {}).items()):
        values = flat(schema, document).get("enum", ())
        if len(values) == 1 and isinstance(values[0], str):
            return name, values[0]
    return None


def _type_of(value: Json) -> str:
    if value is None or value == "":
        return "null"
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "object"


def _listed(value: Json) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _words(types: Iterable[str]) -> str:
    return " or ".join(sorted(types)) or "nothing"


def _canonical(value: Json) -> str:
    return json.dumps(value, sort_keys=True)
