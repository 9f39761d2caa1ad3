"""``shop.yaml``: what a shop declares about itself, read with all its mistakes at once, and stored under its hash.

Read as YAML 1.2 has it: only ``true`` and ``false`` are booleans, so that
``no`` is a text and ``NO`` may be a country. A key told twice, an unknown key,
an anchor or a second document is a mistake; a file with one is not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256 as sha256_of
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import yaml
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from journey.conditions import (
    CURRENCIES,
    NAMES,
    Condition,
    DeclarationError,
    nearest,
    parse,
)
from journey.entries import encode
from streams import topics
from streams.errors import FileFormatError, ShellError
from streams.logs import read_all
from streams.plain import ITEM_CHARS
from streams.settings import Settings

MOST_BYTES: Final = 256 * 1024
MOST_SEGMENTS: Final = 200
MOST_DEPTH: Final = 10  # of the file; what is known is two deep
SEGMENT: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
PERCENT: Final = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,2}))?%")
KEYS: Final = ("segments", "shop", "unavailable")
MOST_UNAVAILABLE: Final = 10_000
SHOP_KEYS: Final = ("consent", "currency", "holdout", "time_zone")
CONSENTS: Final = ("opt_in", "opt_out")
TEXT: Final = "tag:yaml.org,2002:str"
NUMBER: Final = "tag:yaml.org,2002:int"

# words in the name of a trait, and what of a person they tell
PROTECTED: Final[Mapping[str, tuple[str, ...]]] = {
    "age": ("age", "birth*", "bday", "dob"),
    "sex and gender": ("gender*", "sex", "male", "female", "pregnan*", "maternity"),
    "sexual orientation": ("sexual*", "orientation", "lgbt*"),
    "religion or belief": ("religio*", "faith", "belief*", "church"),
    "ethnic origin": ("ethnic*", "race", "racial", "national*", "origin", "skin"),
    "health and disability": ("health*", "disab*", "disease*", "diagnos*", "medical*"),
    "political opinion": ("politic*", "party", "union"),
    "family status": ("marital*", "married"),
}


class ShopFileError(ShellError):
    """A shop file cannot be used; everything that is wrong with it is told, each with its place.

    Operator: correct the file and run the command again. Nothing was stored:
    the configuration in force goes on.
    """


class LostConfigError(ShellError):
    """A configuration that a control message names is not in ``journey.config``, or not what its name says.

    Operator: keep everything. Run ``journey config use`` with the same file
    again, which stores it under the same name, or restore the topic
    ``journey.config`` from a backup; then start the worker again.
    """


class Place(NamedTuple):
    """A mistake and where it is, from 1."""

    line: int
    column: int
    text: str


@dataclass(frozen=True)
class ShopFile:
    """A file that was read: what it declares, and its canonical bytes, by the hash of which it is known."""

    config: dict[str, Any]
    encoded: bytes
    sha256: str
    warnings: tuple[str, ...]


# ---- YAML ------------------------------------------------------------------------------------------------------------


# YAML 1.2's core schema: a tag, what such a scalar looks like, and how it may begin
_SCALARS: Final = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL", "~nN"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return the scalars that are not texts, by their first character, as PyYAML keeps them."""
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {"": [("tag:yaml.org,2002:null", re.compile("^$"))]}
    for tag, pattern, firsts in _SCALARS:
        for first in firsts:
            found.setdefault(first, []).append((f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$")))
    return found


class _Loader(yaml.SafeLoader):
    """Reads as YAML 1.2 has it: no ``yes``, no dates, no numbers in base 60; and no anchors."""

    yaml_implicit_resolvers = _resolvers()
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse what makes a file larger, or deeper, than it looks."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, AliasEvent) or event.anchor is not None:
            msg = "anchors and aliases (& and *) are not read"
            raise yaml.MarkedYAMLError(problem=msg, problem_mark=event.start_mark)
        self.depth += 1
        if self.depth > MOST_DEPTH:
            msg = f"this is nested more than {MOST_DEPTH} deep"
            raise yaml.MarkedYAMLError(problem=msg, problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _File:
    """One file while it is read, and the mistakes found so far."""

    def __init__(self, source: str, name: str) -> None:
        self.source, self.name = source, name
        self.places: list[Place] = []
        self.warnings: list[str] = []

    def wrong(self, node: Node | None, text: str) -> None:
        """Note a mistake at a node, or at the begin of the file."""
        mark: Any = None if node is None else node.start_mark
        self.places.append(Place(1, 1, text) if mark is None else Place(mark.line + 1, mark.column + 1, text))

    def root(self) -> Node | None:
        """Return the file's one document."""
        try:
            return _Loader(self.source).get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
            self.places.append(Place(line, column, error.problem or error.context or "this is no YAML"))
        except yaml.reader.ReaderError as error:
            before = self.source[: error.position]
            line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
            code = ord(self.source[error.position])
            self.places.append(Place(line, column, f"the character U+{code:04X} is not read"))
        return None

    def keys(self, node: Node | None, path: str, known: Iterable[str] | None) -> dict[str, tuple[Node, Node]]:
        """Return what a mapping holds, as key: (its node, its value's node); mistakes are left out."""
        if not isinstance(node, MappingNode):
            if node is not None:
                what = f"{path} holds" if path else "a shop file holds"
                self.wrong(node, f"{what} keys and values, each as key: value")
            return {}
        found: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, ScalarNode) else ""
            dotted = f"{path}.{name}" if path else name
            if not isinstance(key, ScalarNode):
                self.wrong(key, "a key is a word")
            elif known is not None and name not in known:
                self.wrong(key, f"{dotted}: unknown key{nearest(name, known)}")
            elif name in found:
                self.wrong(key, f"{dotted}: this key was told before, in line {found[name][0].start_mark.line + 1}")
            else:
                found[name] = (key, value)
        return found

    def text(self, node: Node, path: str) -> str | None:
        """Return a text; a mistake is noted when it is something else."""
        if isinstance(node, ScalarNode) and node.tag == TEXT and node.value:
            return str(node.value)
        if not isinstance(node, ScalarNode):
            self.wrong(node, f"{path} is a text")
        else:
            self.wrong(node, f"{path} is a text: put it in quotes" if node.value else f"{path} says nothing")
        return None

    def within(self, node: ScalarNode, column: int, text: str) -> Place:
        """Return the place of a character (from 1) of what a scalar says.

        Exact where it stands as it is, or in quotes with quotes doubled; in
        the wilder ways of YAML the begin of the scalar, and the words say which
        character is meant.
        """
        start: Any = node.start_mark
        end: Any = node.end_mark
        line, at, index = start.line + 1, start.column + 1, start.index
        if node.style in ("'", '"'):
            at, index = at + 1, index + 1
        for character in node.value[: column - 1]:
            here = self.source[index] if index < end.index else ""
            if here == "\n" and character == " ":  # a folded line
                while index < end.index and self.source[index] in " \t\r\n":
                    line, at = (line + 1, 1) if self.source[index] == "\n" else (line, at + 1)
                    index += 1
                continue
            width = 2 if node.style == "'" and self.source.startswith("''", index) else 1
            if here != character or node.style in ("|", ">"):
                return Place(start.line + 1, start.column + 1, f"{text} (character {column} of the condition)")
            at, index = at + width, index + width
        return Place(line, at, text)


# ---- what the file declares ------------------------------------------------------------------------------------------


def read(source: bytes, name: str = "shop.yaml") -> ShopFile:
    """Read a shop file.

    Parameters
    ----------
    source
        UTF-8, at most 256 KB.
    name
        What the file is called in messages.

    Raises
    ------
    ShopFileError
        Something is wrong. The message has a line ``name:line:column: what``
        for each mistake, in the order of the file.

    Examples
    --------
    >>> shop = read(b"shop: {currency: EUR, time_zone: Europe/Berlin}")
    >>> shop.config["shop"]["currency"], shop.config["segments"], len(shop.sha256)
    ('EUR', {}, 64)
    """
    if len(source) > MOST_BYTES:
        msg = f"{name}:1:1: a shop file has at most {MOST_BYTES // 1024} KB"
        raise ShopFileError(msg)
    try:
        text = source.decode()
    except UnicodeDecodeError as error:
        before = source[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        msg = f"{name}:{line}:{column}: this is not UTF-8"
        raise ShopFileError(msg) from None
    file = _File(text, name)
    root = file.root()
    config: dict[str, Any] = {}
    if not file.places:
        found = file.keys(root, "", KEYS)
        if "shop" in found:
            shop = _shop(file, *found["shop"])
        else:
            shop = {}
            file.wrong(None, "shop is missing: shop: {currency: EUR, time_zone: Europe/Berlin}")
        segments = _segments(file, found["segments"][1]) if "segments" in found else {}
        config = {"v": 1, "shop": shop, "segments": segments}
        if "unavailable" in found:  # a program that knows of none must not fold on as if there were none
            config |= {"v": 2, "unavailable": _items(file, found["unavailable"][1])}
    if file.places:
        lines = [f"{name}:{line}:{column}: {told}" for line, column, told in sorted(file.places)]
        raise ShopFileError("\n".join(lines))
    encoded = encode(config)
    return ShopFile(config, encoded, sha256_of(encoded).hexdigest(), tuple(file.warnings))


def read_file(path: Path) -> ShopFile:
    """Read a shop file from disk.

    Raises
    ------
    FileFormatError
        There is no such file, or it cannot be read.
    ShopFileError
        Something is wrong with what it says.
    """
    try:
        with path.open("rb") as file:
            source = file.read(MOST_BYTES + 1)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})"
        raise FileFormatError(msg) from None
    return read(source, path.name)


def _shop(file: _File, key: Node, node: Node) -> dict[str, Any]:
    found = file.keys(node, "shop", SHOP_KEYS)
    if isinstance(node, MappingNode):
        for needed in ("currency", "time_zone"):
            if not any(getattr(one, "value", None) == needed for one, _ in node.value):
                file.wrong(key, f"shop.{needed} is missing")
    shop: dict[str, Any] = {"consent": CONSENTS[0], "holdout_per_10000": 0}
    for name, known, what in (
        ("currency", CURRENCIES, "is no currency"),
        ("time_zone", time_zones(), "is no time zone"),
        ("consent", CONSENTS, f"is none of {', '.join(CONSENTS)}"),
    ):
        if name not in found:
            continue
        value = found[name][1]
        told = file.text(value, f"shop.{name}")
        if told is not None and told not in known:
            file.wrong(value, f"shop.{name}: {told[:100]!r} {what}{nearest(told[:100], known)}")
        shop[name] = told
    if "holdout" in found:
        shop["holdout_per_10000"] = _share(file, found["holdout"][1])
    return shop


def _share(file: _File, node: Node) -> int:
    """Return a percentage in parts of 10,000: customers are drawn by a hash modulo 10,000."""
    told = PERCENT.fullmatch(node.value) if isinstance(node, ScalarNode) else None
    parts = int(told[1]) * 100 + int((told[2] or "").ljust(2, "0")) if told else -1
    if not 0 <= parts <= 10_000:
        file.wrong(node, "shop.holdout is a share from 0% to 100%, with at most two digits after the point, such as 5%")
    return parts


def _segments(file: _File, node: Node) -> dict[str, str]:
    found = file.keys(node, "segments", None)
    if len(found) > MOST_SEGMENTS:
        file.wrong(node, f"segments: at most {MOST_SEGMENTS} can be declared, not {len(found)}")
    segments: dict[str, str] = {}
    for name, (key, value) in found.items():
        if SEGMENT.fullmatch(name) is None:
            what = "a name begins with a letter and has a-z, 0-9, _ and -, 64 of them at most"
            file.wrong(key, f"segments.{name[:80]}: {what}")
        told = file.text(value, f"segments.{name[:80]}")
        if told is None or not isinstance(value, ScalarNode):
            continue
        try:
            condition = parse(told, NAMES)
        except DeclarationError as error:
            file.places += [
                file.within(value, fault.column, f"segments.{name[:80]}: {fault.text}") for fault in error.faults
            ]
        else:
            segments[name] = told
            file.warnings += _protected(name, condition)
    return segments


def _items(file: _File, node: Node) -> list[str]:
    """Return the ids in a list of items, each once, sorted."""
    if not isinstance(node, SequenceNode):
        file.wrong(node, "unavailable is a list of item ids: [p-9, p-12]")
        return []
    if len(node.value) > MOST_UNAVAILABLE:
        file.wrong(node, f"unavailable: at most {MOST_UNAVAILABLE:,} items, not {len(node.value):,}")
    items: set[str] = set()
    for number, one in enumerate(node.value[:MOST_UNAVAILABLE]):
        is_number = isinstance(one, ScalarNode) and one.tag == NUMBER  # an id as it is written, not a quantity
        told = str(one.value) if is_number else file.text(one, f"unavailable[{number}]")
        if told is not None and len(told) > ITEM_CHARS:
            file.wrong(one, f"unavailable[{number}]: an item id has at most {ITEM_CHARS} characters")
        elif told is not None:
            items.add(told)
    return sorted(items)


def _protected(segment: str, condition: Condition) -> list[str]:
    """Return a warning for each trait that tells what nobody may be treated worse for."""
    return [
        f"segments.{segment} asks for {name}: {tells} is a protected trait. Nothing that its members get may be worse "
        "than what others get; look at its fairness before a journey uses it"
        for name in condition.names if (tells := protected_by(name)) is not None
    ]  # fmt: skip


def protected_by(name: str) -> str | None:
    """Return what a trait tells of a person that is protected, judged by the words in its name; None: nothing.

    >>> protected_by("trait.birthYear"), protected_by("trait.language"), protected_by("orders.count")
    ('age', None, None)
    """
    group, _, trait = name.partition(".")
    if group != "trait":
        return None
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", trait)]
    for tells, stems in PROTECTED.items():
        for stem in stems:
            begin = stem.rstrip("*")
            if any(word.startswith(begin) if stem.endswith("*") else word == stem for word in words):
                return tells
    return None


def time_zones() -> frozenset[str]:
    """Return the names of the time zones of the package ``tzdata``, never the system's."""
    return frozenset((files("tzdata") / "zones").read_text("ascii").split())


# ---- where configurations lie ----------------------------------------------------------------------------------------


async def load_config(settings: Settings, sha256: str) -> dict[str, Any]:
    """Return a configuration that was stored in ``journey.config``.

    Raises
    ------
    LostConfigError
        It is not there, or not what its name says.
    """
    name = settings.topic(topics.CONFIG)
    found: bytes | None = None
    async for record in read_all(settings, name):
        if record.key == sha256.encode():
            found = record.value
    return checked(found, sha256, name)


def checked(content: bytes | None, sha256: str, topic: str) -> dict[str, Any]:
    """Return the configuration in a record, whose key it has to deserve.

    Raises
    ------
    LostConfigError
        There is none, or it has another hash.
    """
    if content is None:
        msg = f"configuration {sha256} is not in the topic {topic}"
        raise LostConfigError(msg)
    if sha256_of(content).hexdigest() != sha256:
        msg = f"configuration {sha256} in the topic {topic} was changed: its content has another hash"
        raise LostConfigError(msg)
    config: dict[str, Any] = orjson.loads(content)
    return config
