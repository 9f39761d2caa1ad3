"""Ids made from meaning: no clock, no counter, no chance, so a repeat carries the same id."""

from __future__ import annotations

import zlib
from binascii import b2a_base64
from hashlib import blake2b
from typing import Final

# what programs write when they have no id; compared in lower case
BLOCKED_IDS: Final = frozenset(
    (
        "", "null", "undefined", "none", "nan", "0", "-1", "true", "false", "anonymous", "guest", "unknown",
        "[object object]",
    )
)  # fmt: skip
_LONGEST_BLOCKED: Final = max(map(len, BLOCKED_IDS))
SEEN_ID_LENGTH: Final = 11  # characters of ``seen_id``
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = tuple(high + low for high in _BASE32 for low in _BASE32)  # ten bits each


def derive(*parts: str) -> str:
    """Return the id of these parts: 26 characters, lower-case unpadded base32 of BLAKE2b-128.

    >>> derive("trigger", "jr_x", "first")
    'kh6dlyrl4aichoqwlsdfufz65q'
    """
    # 128 bits and two of padding are 13 pairs; base64.b32encode takes several times as long, and so do whole numbers
    # of more than 62 bits: 50, 40 and 40
    digest = blake2b("\x1f".join(parts).encode(), digest_size=16).digest()
    high, middle, low = digest[0:7], digest[6:12], digest[11:16]
    a = int.from_bytes(high, "big") >> 6
    b = (int.from_bytes(middle, "big") >> 6) & 0xFF_FFFF_FFFF
    c = (int.from_bytes(low, "big") << 2) & 0xFF_FFFF_FFFF
    pairs = _PAIRS
    return "".join(
        [
            pairs[a >> 40], pairs[a >> 30 & 1023], pairs[a >> 20 & 1023], pairs[a >> 10 & 1023], pairs[a & 1023],
            pairs[b >> 30], pairs[b >> 20 & 1023], pairs[b >> 10 & 1023], pairs[b & 1023],
            pairs[c >> 30], pairs[c >> 20 & 1023], pairs[c >> 10 & 1023], pairs[c & 1023],
        ]
    )  # fmt: skip


def seen_id(message_id: str) -> str:
    """Return the eight-byte hash under which a message id is remembered, as 11 characters of base64."""
    return b2a_base64(blake2b(message_id.encode(), digest_size=8).digest(), newline=False)[:SEEN_ID_LENGTH].decode()


def customer_key(user_id: str | None, anonymous_id: str | None) -> str | None:
    """Return ``u:<user id>``, else ``a:<anonymous id>``, else None when neither is there.

    >>> customer_key("42", "9f3c"), customer_key(None, "9f3c"), customer_key(None, None)
    ('u:42', 'a:9f3c', None)
    """
    if user_id:
        return "u:" + user_id
    return "a:" + anonymous_id if anonymous_id else None


def is_blocked(value: str) -> bool:
    """Tell whether an id is one of the values that mean "no id"."""
    if len(value) > _LONGEST_BLOCKED and not value[0].isspace() and not value[-1].isspace():
        return False
    return value.strip().lower() in BLOCKED_IDS


def route(key: str, partitions: int) -> int:
    """Return the journal partition of a customer key: a pure function, so that a repeat lands in the same log."""
    return zlib.crc32(key.encode()) % partitions
