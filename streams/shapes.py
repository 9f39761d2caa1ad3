"""The shapes of raw events, by type: what pydantic checks of a chunk of one class at once."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired, Required, get_type_hints

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from journey.events import CLASS_OF, CLASSES, GREATEST, TYPES
from streams.arrivals import EVENT_VERSION, LIST_ITEMS
from streams.plain import ITEM_CHARS

TRAITS: Final = 256
SCOPE_CHARS: Final = 255
CHANNEL_CHARS: Final = SCOPE_CHARS - len("marketing.")  # leaving a channel revokes ``marketing.<channel>``
TRAIT_ITEMS: Final = 20

Id = Annotated[str, StringConstraints(min_length=1, max_length=255)]
ItemId = Annotated[str, StringConstraints(min_length=1, max_length=ITEM_CHARS)]
Minor = Annotated[int, Field(strict=True, ge=0, le=GREATEST)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Text = Annotated[str, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Status = Literal["granted", "denied", "revoked"]
Scopes = dict[Annotated[str, StringConstraints(min_length=1, max_length=SCOPE_CHARS)], Status]
Scalar = str | bool | int | float | None
Traits = Annotated[dict[str, Scalar | Annotated[list[Scalar], Field(max_length=TRAIT_ITEMS)]], Field(max_length=TRAITS)]


class Coupon(TypedDict, total=False):
    """A coupon as the shop names it."""

    id: Text
    name: Text
    discount_minor: Minor
    reason: Text


class Item(TypedDict):
    """A product in an event."""

    item_id: ItemId
    unit_price_minor: NotRequired[Minor]
    quantity: NotRequired[Annotated[int, Field(strict=True, ge=0, le=GREATEST)]]
    sku: NotRequired[Text]
    name: NotRequired[Text]
    brand: NotRequired[Text]
    category: NotRequired[Text]
    variant: NotRequired[Text]
    position: NotRequired[Annotated[int, Field(strict=True, ge=-GREATEST, le=GREATEST)]]
    coupon: NotRequired[Text | Coupon]
    url: NotRequired[Text]
    image_url: NotRequired[Text]


class Money(TypedDict, total=False):
    """Amounts in minor units of ``currency``, and what every kind of event may carry."""

    currency: Currency
    value_minor: Minor
    subtotal_minor: Minor
    total_minor: Minor
    revenue_minor: Minor
    shipping_minor: Minor
    tax_minor: Minor
    discount_minor: Minor
    refund_minor: Minor
    extra: dict[str, Any]


Items = Annotated[list[Item], Field(max_length=LIST_ITEMS)]


class ClickData(Money, total=False):
    """What a click may tell."""

    item: Item
    items: Items
    query: Text
    name: Text
    list_id: Text
    category: Text
    promotion: dict[str, Any]
    rating: Number
    text: Text


class CartData(Money, total=False):
    """What a cart or checkout event may tell."""

    cart_id: Id
    checkout_id: Text
    order_id: Id
    step: Text | Annotated[int, Field(strict=True)]
    item: Item
    items: Items
    coupon: Coupon


class OrderData(Money):
    """An order."""

    order_id: Id
    cart_id: NotRequired[Id]
    items: NotRequired[Items]
    coupon: NotRequired[Coupon]


class IdentifyData(TypedDict, total=False):
    """Who somebody is."""

    traits: Traits
    previous_id: Id
    previous_kind: Literal["anonymous", "user"]
    extra: dict[str, Any]


class ConsentData(TypedDict):
    """What somebody allows."""

    scopes: Scopes
    extra: NotRequired[dict[str, Any]]


class EraseData(TypedDict):
    """A wish to be forgotten."""

    mode: Literal["suppress", "unsuppress", "suppress_with_delete", "delete_only"]
    extra: NotRequired[dict[str, Any]]


class FeedbackData(Money):
    """What came of a message."""

    channel: Annotated[str, StringConstraints(min_length=1, max_length=CHANNEL_CHARS)]
    trigger_id: NotRequired[Text]
    scope: NotRequired[Annotated[str, StringConstraints(min_length=1, max_length=SCOPE_CHARS)]]
    url: NotRequired[Text]
    order_id: NotRequired[Id]
    reason: NotRequired[Text]
    bounce: NotRequired[Literal["hard", "soft"]]
    machine: NotRequired[Flag]
    text: NotRequired[Text]


class SatisfactionData(FeedbackData):
    """A score on a scale."""

    score: Number
    scale: Annotated[list[Number], Field(min_length=2, max_length=2)]


class Context(TypedDict, total=False):
    """The part of the context that is kept."""

    session_id: Text
    locale: Text
    timezone: Text
    campaign: dict[str, Any]
    consent: Scopes


class Envelope(TypedDict):
    """What every raw event has."""

    occurred_at: Text
    message_id: NotRequired[Annotated[str, StringConstraints(max_length=100)]]
    user_id: NotRequired[Annotated[str, StringConstraints(max_length=255)]]
    anonymous_id: NotRequired[Annotated[str, StringConstraints(max_length=255)]]
    sent_at: NotRequired[Text]
    received_at: NotRequired[Text]
    source: NotRequired[Text]
    v: NotRequired[Annotated[int, Field(strict=True, ge=1, le=EVENT_VERSION)]]
    historical: NotRequired[Flag]
    context: NotRequired[Context]


def _shape(name: str, fields: dict[str, Any], *, total: bool = True) -> Any:
    make: Any = TypedDict  # a call with fields that only the program knows
    return make(name, fields, total=total)


def _requiring(shape: Any, field: str) -> Any:
    """Return a shape all of whose fields are optional, but for one."""
    fields = get_type_hints(shape, include_extras=True)
    return _shape(f"{shape.__name__}_{field}", fields | {field: Required[fields[field]]}, total=False)


_ITEM_CLICK, _ITEM_CART = _requiring(ClickData, "item"), _requiring(CartData, "item")
_COUPON_CART, _PREVIOUS = _requiring(CartData, "coupon"), _requiring(IdentifyData, "previous_id")

# type name -> shape of ``data``; what is not named has the class's general shape
_SHAPES: Final[dict[str, Any]] = {
    **{
        f"click.product_{name}": _ITEM_CLICK
        for name in ("viewed", "clicked", "shared", "reviewed", "added_to_wishlist", "removed_from_wishlist")
    },
    "click.products_searched": _requiring(ClickData, "query"),
    "click.custom": _requiring(ClickData, "name"),
    "cart.product_added": _ITEM_CART,
    "cart.product_removed": _ITEM_CART,
    "cart.cart_updated": _requiring(CartData, "items"),
    **{f"cart.coupon_{name}": _COUPON_CART for name in ("entered", "applied", "denied", "removed")},
    "profile.identify": _requiring(IdentifyData, "traits"),
    "profile.alias": _PREVIOUS,
    "profile.unlink": _PREVIOUS,
    "profile.consent": ConsentData,
    "profile.erase": EraseData,
    "feedback.satisfaction": SatisfactionData,
}
_GENERAL: Final[dict[str, Any]] = {
    "click": ClickData, "cart": CartData, "purchase": OrderData, "profile": IdentifyData, "feedback": FeedbackData,
}  # fmt: skip
# types whose data may be absent altogether
_BARE: Final = frozenset(
    name for name in CLASS_OF if name not in _SHAPES and not name.startswith(("purchase.", "feedback."))
)


def _adapter(cls: str) -> TypeAdapter[list[dict[str, Any]]]:
    """Return the validator of a chunk of one class: one branch for each shape, told apart by ``type``."""
    by_shape: dict[tuple[Any, bool], list[str]] = {}
    for name in TYPES[cls]:
        type_ = f"{cls}.{name}"
        by_shape.setdefault((_SHAPES.get(type_, _GENERAL[cls]), type_ in _BARE), []).append(type_)
    branches = []
    for (shape, bare), names in by_shape.items():
        data = NotRequired[shape] if bare else shape
        fields = {"type": Literal[tuple(names)], "data": data, **get_type_hints(Envelope, include_extras=True)}
        branches.append(_shape(f"{cls}_{shape.__name__}", fields))
    union: Any = branches[0]
    for branch in branches[1:]:
        union = union | branch
    chunk: Any = list[Annotated[union, Field(discriminator="type")]]
    return TypeAdapter(chunk, config=None)


ADAPTERS: Final = {cls: _adapter(cls) for cls in CLASSES}

__all__ = ["ADAPTERS", "CHANNEL_CHARS", "SCOPE_CHARS", "TRAITS", "TRAIT_ITEMS", "ValidationError"]
