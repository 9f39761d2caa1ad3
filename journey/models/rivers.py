"""River's estimators as plain JSON: nothing is pickled, and what cannot be written down is refused.

A state is a table of shapes (a class and the names of its attributes) and one
node. None, booleans, numbers and texts stand for themselves; every other node
is a list that begins with what it is::

    [3, ...]                       an object of shape 3: its attributes, in the shape's order
    ["list", ...] ["deque", n, ..] items; of a deque its length first
    ["dict", k, v, ...]            in the order of insertion; ["counter", ...] as well
    ["default", f, k, v, ...]      a defaultdict and what makes its values
    ["set", ...]                   in the order of their bytes; tuples and frozensets likewise
    ["same", 5]                    the sixth thing that can change, met before
    ["float", "nan"]               a number that JSON has no word for
    ["array", type, shape, ...]    of NumPy; ["scalar", type, value]
    ["chance", version, [...], g]  a generator of random numbers, as it stands
    ["window", [...], ...]         River's adaptive window, which it keeps in Rust

Reading makes objects without calling their constructors. The only classes it
knows are those above and those that River's loaded modules define.
"""

from __future__ import annotations

import math
import struct
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from types import MemberDescriptorType
from typing import Any, Final, NoReturn

import numpy as np
from river import drift, proba

from journey.entries import encode as canonical
from journey.errors import BadSnapshotError
from journey.models.base import State

VERSION: Final = 1

_LEAST_INT: Final = -(2**63)
_MOST_INT: Final = 2**64 - 1
_NO_NUMBERS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_FACTORIES: Final[dict[str, Callable[[], Any]]] = {"int": int, "float": float, "list": list, "dict": dict, "set": set}
# what a distribution keeps to draw from itself; the class of every generator that River has
_RNG: Final = "_rng"
_gaussian: Any = proba.Gaussian
_adwin: Any = drift.ADWIN
_Chance: Final[Any] = type(vars(_gaussian())[_RNG])
_Window: Final[Any] = type(vars(_adwin())["_helper"])
_WINDOW: Final = struct.Struct("<diQddddddiiii")  # how River packs the numbers of a window,
_BUCKETS: Final = struct.Struct("<Q")  # how many buckets (or numbers in one) follow,
_BUCKET: Final = struct.Struct("<QQ")  # the most and the present size of each,
_ARGUMENTS: Final = struct.Struct("<diQii")  # and, at the end, what it was made with
_MOST_BUCKETS: Final = 64
# what reading a damaged state can end in
_DAMAGE: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error)


def encode(value: object) -> State:
    """Return the state of a River estimator, or of anything that it consists of.

    Equal estimators have equal bytes once ``journey.entries.encode`` writes
    them: attributes and members of sets are in canonical order. What is held
    twice stays one thing. The generators that distributions draw from when
    nobody gave them a seed are left out: they differ in every process.

    Raises
    ------
    BadSnapshotError
        Something in it is neither of River, a container, nor a number or text.

    Examples
    --------
    >>> from river import stats
    >>> mean = stats.Mean()
    >>> mean.update(3.0)
    >>> encode(mean)
    {'v': 1, 'shapes': [['river.stats.mean', 'Mean', ['_mean', 'n']]], 'value': [0, 3.0, 1.0]}
    """
    writer = _Writer()
    try:
        node = writer.write(value)
    except RecursionError as error:
        text = f"{_name(type(value))} cannot be kept as JSON: it is nested too deeply"
        raise BadSnapshotError(text) from error
    return {"v": VERSION, "shapes": writer.shapes, "value": node}


def decode(state: State, *, finite: bool = False) -> Any:
    """Return what was encoded; it goes on, bit for bit, as the original would.

    Parameters
    ----------
    finite
        Refuse infinities and NaN as well: in the model at hand they mean that it exploded.

    Raises
    ------
    BadSnapshotError
        Another version, an unknown class, or a node that is none.
    """
    if not isinstance(state, dict) or state.get("v") != VERSION:
        _bad(f"not a state of River objects of version {VERSION}")
    try:
        return _Reader(state["shapes"], finite=finite).read(state["value"])
    except _DAMAGE as error:
        text = f"a state of River objects is damaged: {error}"
        raise BadSnapshotError(text) from error


class _Writer:
    def __init__(self) -> None:
        self.shapes: list[list[Any]] = []
        self._shape_at: dict[tuple[type, tuple[str, ...]], int] = {}
        self._met: dict[int, int] = {}

    def write(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if _LEAST_INT <= value <= _MOST_INT else _refuse(kind, "over 64 bits")
        if kind is float:
            return value if math.isfinite(value) else ["float", str(value)]
        if kind is tuple:
            return ["tuple", *(self.write(part) for part in value)]
        if kind is frozenset:
            return ["frozenset", *self._members(value)]
        if isinstance(value, np.generic):
            return ["scalar", _number_type(value.dtype), self.write(value.item())]
        known = self._met.get(id(value))
        if known is not None:
            return ["same", known]
        self._met[id(value)] = len(self._met)
        return self._changing(value, kind)

    def _changing(self, value: Any, kind: type) -> list[Any]:
        if kind is list:
            return ["list", *map(self.write, value)]
        if kind is dict:
            return ["dict", *self._pairs(value)]
        if kind is set:
            return ["set", *self._members(value)]
        if kind is Counter:
            return ["counter", *self._pairs(value)]
        if kind is defaultdict:
            return ["default", _factory_name(value.default_factory), *self._pairs(value)]
        if kind is deque:
            return ["deque", value.maxlen, *map(self.write, value)]
        if kind is np.ndarray:
            return ["array", _number_type(value.dtype), list(value.shape), *map(self.write, value.ravel().tolist())]
        if kind is _Chance:
            version, numbers, gauss = value.getstate()
            return ["chance", version, list(numbers), gauss]
        if kind is _Window:
            return ["window", *_window_parts(value)]
        return self._object(value, kind)

    def _object(self, value: Any, kind: type) -> list[Any]:
        attributes = _attributes(value, kind)
        if _draws_from_nowhere(value, attributes):
            del attributes[_RNG]
        names = tuple(sorted(attributes))
        at = self._shape_at.setdefault((kind, names), len(self.shapes))
        if at == len(self.shapes):
            self.shapes.append([kind.__module__, kind.__qualname__, list(names)])
        return [at, *(self.write(attributes[name]) for name in names)]

    def _pairs(self, value: dict[Any, Any]) -> Iterator[Any]:
        for key, held in value.items():
            yield self.write(_plain(key))
            yield self.write(held)

    def _members(self, value: set[Any] | frozenset[Any]) -> list[Any]:
        return sorted((self.write(_plain(member)) for member in value), key=canonical)


class _Reader:
    def __init__(self, shapes: list[Any], *, finite: bool) -> None:
        self._finite = finite
        self._shapes = [(_class(module, name), [*map(str, names)]) for module, name, names in shapes]
        self._met: list[Any] = []
        self._spare: Any = None

    def read(self, node: Any) -> Any:
        if not isinstance(node, list):
            if node is None or isinstance(node, bool | int | str) or (isinstance(node, float) and math.isfinite(node)):
                return node
            _bad(f"{node!r} is no node")
        tag, parts = node[0], node[1:]
        if isinstance(tag, int):
            return self._object(tag, parts)
        match tag:
            case "float":
                return _bad(f"{parts[0]} among the numbers") if self._finite else _NO_NUMBERS[parts[0]]
            case "tuple":
                return tuple(self.read(part) for part in parts)
            case "frozenset":
                return frozenset(_plain(self.read(part)) for part in parts)
            case "scalar":
                return np.dtype(_number_type(np.dtype(parts[0]))).type(self.read(parts[1]))
            case "same":
                return self._met[_index(parts[0])]
            case "array":
                return self._keep(_array(parts[0], parts[1], [self.read(part) for part in parts[2:]]))
            case "chance":
                return self._keep(_chance(*parts))
            case "window":
                return self._keep(_window(*parts))
        return self._container(tag, parts)

    def _container(self, tag: Any, parts: list[Any]) -> Any:
        value: Any
        match tag:
            case "list" | "deque":
                value = self._keep([] if tag == "list" else deque(maxlen=parts.pop(0)))
                for part in parts:
                    value.append(self.read(part))
            case "set":
                value = self._keep(set())
                value.update([_plain(self.read(part)) for part in parts])
            case "dict" | "counter" | "default":
                made = {"dict": dict, "counter": Counter}
                value = self._keep(defaultdict(_factory(parts.pop(0))) if tag == "default" else made[tag]())
                for key, held in zip(parts[::2], parts[1::2], strict=True):
                    value[_plain(self.read(key))] = self.read(held)
            case _:
                _bad(f"{tag!r} is no kind of node")
        return value

    def _keep(self, value: Any) -> Any:
        self._met.append(value)
        return value

    def _object(self, at: int, parts: list[Any]) -> Any:
        kind, names = self._shapes[_index(at)]
        value = self._keep(object.__new__(kind))
        attributes = vars(value) if hasattr(value, "__dict__") else {}
        for name, part in zip(names, parts, strict=True):
            held, slot = self.read(part), getattr(kind, name, None)
            if isinstance(slot, MemberDescriptorType):
                slot.__set__(value, held)
            else:
                attributes[name] = held
        if isinstance(value, proba.base.Distribution) and _RNG not in attributes:
            if self._spare is None:
                self._spare = _Chance(0)  # one for all of them: what they draw was never to be repeated
            attributes[_RNG] = self._spare
        return value


# ---- classes -------------------------------------------------------------------------------------------------------


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _bad(text: str) -> NoReturn:
    raise BadSnapshotError(text)


def _refuse(kind: type, why: str) -> NoReturn:
    _bad(f"{_name(kind)} cannot be kept as JSON: {why}")


def _class(module: str, name: str) -> type:
    """Return a class that a loaded module of River defines; nothing is imported for it."""
    if module != "river" and not module.startswith("river."):
        _bad(f"{module}.{name} cannot be restored: not a class of River")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or (found.__module__, found.__qualname__) != (module, name):
        _bad(f"{module}.{name} cannot be restored: River has no such class")
    return found


def _attributes(value: Any, kind: type) -> dict[str, Any]:
    """Return all that an object is, if it is no more than its attributes."""
    for how in ("__reduce_ex__", "__reduce__", "__getstate__"):
        if getattr(kind, how) is not getattr(object, how):
            _refuse(kind, "it has a way of its own")
    if _class(kind.__module__, kind.__qualname__) is not kind:
        _refuse(kind, "another class has its name")
    try:
        # what ``copy`` asks as well: it refuses a class that holds more than can be read
        _, made_with, state, items, pairs = value.__reduce_ex__(2)
    except TypeError as error:
        text = f"{_name(kind)} cannot be kept as JSON: {error}"
        raise BadSnapshotError(text) from error
    if made_with != (kind,) or items is not None or pairs is not None:
        _refuse(kind, "it is more than its attributes")
    named, slots = state if isinstance(state, tuple) else (state, None)
    return {**(named or {}), **(slots or {})}


def _draws_from_nowhere(value: Any, attributes: dict[str, Any]) -> bool:
    return isinstance(value, proba.base.Distribution) and attributes.get("seed") is None and _RNG in attributes


# ---- what has parts that cannot change -----------------------------------------------------------------------------


def _plain(key: Any) -> Any:
    """Return what may be a key or a member of a set: no code of its own decides when two are equal."""
    kind = type(key)
    if key is None or kind in (bool, int, float, str):
        return key
    if kind is tuple:
        return tuple(_plain(part) for part in key)
    _refuse(kind, "it is a key or a member of a set")


def _index(at: Any) -> int:
    if type(at) is not int or at < 0:
        _bad(f"{at!r} is no place in a state")
    return at


def _factory_name(factory: Any) -> Any:
    for name, known in _FACTORIES.items():
        if factory is known:
            return name
    if factory is None:
        return None
    if type(factory) is partial and factory.func is defaultdict and len(factory.args) == 1 and not factory.keywords:
        return ["default", _factory_name(factory.args[0])]
    _refuse(type(factory), "it makes the values of a defaultdict")


def _factory(name: Any) -> Any:
    if isinstance(name, list):
        return partial(defaultdict, _factory(name[1]))
    return None if name is None else _FACTORIES[name]


def _number_type(dtype: Any) -> str:
    """Return the name of a NumPy type that one JSON number holds to the bit."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        _bad(f"numpy.{dtype} cannot be kept as JSON: not a number of 64 bits")
    return str(dtype.name)


def _array(name: str, shape: list[int], values: list[Any]) -> Any:
    return np.array(values, dtype=_number_type(np.dtype(name))).reshape([_index(size) for size in shape])


def _chance(version: int, numbers: list[int], gauss: float | None) -> Any:
    if gauss is not None and not math.isfinite(gauss):
        _bad(f"a generator that would give {gauss}")
    chance = _Chance(0)
    chance.setstate((version, tuple(numbers), gauss))
    return chance


def _window_parts(window: Any) -> list[list[Any]]:
    """Return an adaptive window as its numbers and, for each size of bucket, the sums and variances."""
    packed = window.__getstate__()
    numbers = list(_WINDOW.unpack_from(packed))
    (buckets,), at = _BUCKETS.unpack_from(packed, _WINDOW.size), _WINDOW.size + _BUCKETS.size
    parts: list[list[Any]] = [numbers]
    for _ in range(buckets):
        most, size = _BUCKET.unpack_from(packed, at)
        room = struct.Struct(f"<Q{most + 1}d")
        (_, *totals), at = room.unpack_from(packed, at + _BUCKET.size), at + _BUCKET.size + room.size
        (_, *variances), at = room.unpack_from(packed, at), at + room.size
        parts.append([totals[:size], variances[:size]])
    if _packed(*parts) != packed:
        _bad(f"{_name(_Window)} cannot be kept as JSON: this River packs it in another way")
    return parts


def _packed(numbers: list[Any], *buckets: list[Any]) -> bytes:
    delta, clock, most, shortest, grace = numbers[:5]
    room = struct.Struct(f"<Q{most + 1}d")
    parts = [_WINDOW.pack(*numbers), _BUCKETS.pack(len(buckets))]
    for totals, variances in buckets:
        rest = [0.0] * (most + 1 - len(totals))
        parts.append(_BUCKET.pack(most, len(totals)))
        parts += (room.pack(most + 1, *kept, *rest) for kept in (totals, variances))
    parts.append(_ARGUMENTS.pack(delta, clock, most, int(shortest), int(grace)))
    return b"".join(parts)


def _window(numbers: list[Any], *buckets: list[Any]) -> Any:
    """Return an adaptive window of these parts, which have to agree: Rust ends the process where they do not."""
    delta, clock, most, shortest, grace, _, _, width, *_ = numbers
    sizes = [len(totals) for totals, _ in buckets]
    agrees = (
        clock > 0
        and 1 <= most <= _MOST_BUCKETS
        and 1 <= len(sizes) <= _MOST_BUCKETS
        and max(sizes) <= most
        and (sizes[-1] > 0 or sizes == [0])
        and [len(variances) for _, variances in buckets] == sizes
        and width == sum(size * 2**power for power, size in enumerate(sizes))
        and all(math.isfinite(number) for number in chain(numbers, *chain(*buckets)))
    )
    if not agrees:
        _bad("the numbers of an adaptive window do not agree")
    packed = _packed(numbers, *buckets)
    window = _Window(delta, clock, most, int(shortest), int(grace))
    window.__setstate__(packed)
    return window
