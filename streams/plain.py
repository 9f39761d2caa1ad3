"""The short way in: an event in which everything is as nearly everybody sends it needs no general validator.

``plain`` decides by the event alone. What it takes, ``streams.shapes`` would
take too, and give the same (a property test compares them); whatever is not
plain is not refused here, but goes the long way. Compiled, it costs a third.
"""

from __future__ import annotations

from typing import Any, Final

from journey.events import CLASS_OF, GREATEST

EVENT_BYTES: Final = 2_048  # up to here no text is too long, and so little fits in that it cannot nest deep
ITEMS: Final = 200
MESSAGE_CHARS: Final = 100
ID_CHARS: Final = 255
ITEM_CHARS: Final = 128

# what a field may hold; 0 is a field that nobody knows, which is dropped. One by one: so they are compiled as constants
_TEXT: Final = 1
_MESSAGE: Final = 2
_ID: Final = 3
_ITEM_ID: Final = 4
_CURRENCY: Final = 5
_MINOR: Final = 6
_SIGNED: Final = 7
_ITEM: Final = 8
_ITEMS: Final = 9
_FLAT: Final = 10
_SCOPES: Final = 11
_FLAG: Final = 12
_CONTEXT: Final = 13
_NEVER: Final = 14  # known, but for the long way

_MONEY: Final = {
    "currency": _CURRENCY, "extra": _NEVER,
    **dict.fromkeys(
        (f"{name}_minor" for name in (
            "value", "subtotal", "total", "revenue", "shipping", "tax", "discount", "refund",
        )), _MINOR,
    ),
}  # fmt: skip
_ITEM_FIELDS: Final = {
    "item_id": _ITEM_ID, "unit_price_minor": _MINOR, "quantity": _MINOR, "position": _SIGNED,
    **dict.fromkeys(("sku", "name", "brand", "category", "variant", "coupon", "url", "image_url"), _TEXT),
}  # fmt: skip
_DATA: Final[dict[str, dict[str, int]]] = {
    "click": _MONEY | {
        "item": _ITEM, "items": _ITEMS, "promotion": _FLAT, "rating": _NEVER,
        **dict.fromkeys(("query", "name", "list_id", "category", "text"), _TEXT),
    },
    "cart": _MONEY | {
        "cart_id": _ID, "checkout_id": _TEXT, "order_id": _ID, "step": _NEVER, "item": _ITEM, "items": _ITEMS,
        "coupon": _NEVER,
    },
    "purchase": _MONEY | {"order_id": _ID, "cart_id": _ID, "items": _ITEMS, "coupon": _NEVER},
}  # fmt: skip
_REQUIRED: Final = {
    **{
        f"click.product_{name}": "item"
        for name in ("viewed", "clicked", "shared", "reviewed", "added_to_wishlist", "removed_from_wishlist")
    },
    "click.products_searched": "query", "click.custom": "name",
    "cart.product_added": "item", "cart.product_removed": "item", "cart.cart_updated": "items",
    **{f"cart.coupon_{name}": "coupon" for name in ("entered", "applied", "denied", "removed")},
    **{name: "order_id" for name in CLASS_OF if name.startswith("purchase.")},
}  # fmt: skip
_ENVELOPE: Final = {
    "type": _TEXT, "occurred_at": _TEXT, "message_id": _MESSAGE, "user_id": _ID, "anonymous_id": _ID,
    "sent_at": _TEXT, "received_at": _TEXT, "source": _TEXT, "v": _NEVER, "historical": _FLAG, "context": _CONTEXT,
    "data": _NEVER,
}  # fmt: skip
_CONTEXT_FIELDS: Final = {
    "session_id": _TEXT, "locale": _TEXT, "timezone": _TEXT, "campaign": _FLAT, "consent": _SCOPES,
}  # fmt: skip
_STATUSES: Final = frozenset(("granted", "denied", "revoked"))


def plain(cls: str, event: Any) -> dict[str, Any] | None:
    """Return a decoded event of a class as the validator would; None when it has to be asked.

    The event was made of at most ``EVENT_BYTES``. It may be changed.
    """
    if type(event) is not dict:
        return None
    whole: dict[str, Any] = event
    type_ = whole.get("type")
    fields = _DATA.get(cls)
    if fields is None or type(type_) is not str or CLASS_OF.get(type_) != cls:
        return None
    data = whole.pop("data", None)
    known = None if type(data) is not dict else _known(data, fields)
    required = _REQUIRED.get(type_)
    if known is None or (required is not None and required not in known):
        whole["data"] = data
        return None
    envelope = _known(whole, _ENVELOPE)
    if envelope is None or "occurred_at" not in envelope:
        whole["data"] = data
        return None
    envelope["data"] = known
    return envelope


def _known(value: dict[str, Any], fields: dict[str, int]) -> dict[str, Any] | None:
    """Return what is known of an object, without what is absent; None when the long way has to be gone."""
    is_whole = True
    parts: dict[str, Any] = {}  # what nested objects became, where they are not whole
    for name, part in value.items():
        kind = fields.get(name, 0)
        if type(part) is str:
            text: str = part
            if not text or kind == 0:
                is_whole = False
            elif not _is_text(kind, text):
                return None
        elif type(part) is int:
            if kind == 0:
                is_whole = False
            elif kind == _MINOR:
                if not 0 <= part <= GREATEST:
                    return None
            elif kind != _SIGNED or not -GREATEST <= part <= GREATEST:
                return None
        elif part is None:
            is_whole = False
        elif type(part) is dict:
            if kind == 0:
                if not _is_flat(part):
                    return None
                is_whole = False
                continue
            nested = _nested(kind, part)
            if nested is None:
                return None
            if nested is not part:
                parts[name] = nested
        elif kind == _ITEMS and type(part) is list:
            items = _items(part)
            if items is None:
                return None
            parts[name] = items
        elif kind == 0 and (type(part) is bool or type(part) is float):
            is_whole = False
        elif kind != _FLAG or type(part) is not bool:
            return None
    if is_whole:
        if parts:
            value.update(parts)
        return value
    return {
        name: parts.get(name, part)
        for name, part in value.items()
        if fields.get(name, 0) and part is not None and part != ""
    }


def _is_text(kind: int, text: str) -> bool:
    """Tell whether a text that is not empty fits a field."""
    if kind == _TEXT:
        return True
    size = len(text)
    if kind == _MESSAGE:
        return size <= MESSAGE_CHARS
    if kind == _ID:
        return size <= ID_CHARS
    if kind == _ITEM_ID:
        return size <= ITEM_CHARS
    return kind == _CURRENCY and size == 3 and text.isascii() and text.isalpha() and text.isupper()


def _nested(kind: int, part: dict[str, Any]) -> dict[str, Any] | None:
    if kind == _ITEM:
        item = _known(part, _ITEM_FIELDS)
        return item if item is not None and "item_id" in item else None
    if kind == _CONTEXT:
        return _known(part, _CONTEXT_FIELDS)
    if kind == _FLAT:
        return part if _is_flat(part) and None not in part.values() and "" not in part.values() else None
    if kind == _SCOPES:
        for scope, status in part.items():
            if not 1 <= len(scope) <= ID_CHARS or type(status) is not str or status not in _STATUSES:
                return None
        return part
    return None


def _items(parts: list[Any]) -> list[Any] | None:
    if len(parts) > ITEMS:
        return None
    items: list[Any] = []
    for part in parts:
        item = _nested(_ITEM, part) if type(part) is dict else None
        if item is None:
            return None
        items.append(item)
    return items


def _is_flat(part: dict[str, Any]) -> bool:
    return not any(isinstance(value, dict | list) for value in part.values())
