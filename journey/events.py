"""The catalogue of what a customer can do, and the rules of event time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CLASSES: Final = ("click", "cart", "purchase", "profile", "feedback")

TYPES: Final[dict[str, tuple[str, ...]]] = {
    "click": (
        "page_viewed", "screen_viewed", "product_viewed", "product_clicked", "product_shared", "product_reviewed",
        "product_list_viewed", "product_list_filtered", "product_added_to_wishlist", "product_removed_from_wishlist",
        "products_searched", "promotion_viewed", "promotion_clicked", "cart_shared", "custom",
    ),
    "cart": (
        "product_added", "product_removed", "cart_viewed", "cart_updated", "checkout_started", "checkout_step_viewed",
        "checkout_step_completed", "payment_info_entered", "coupon_entered", "coupon_applied", "coupon_denied",
        "coupon_removed",
    ),
    "purchase": ("order_completed", "order_updated", "order_refunded", "order_cancelled"),
    "profile": ("identify", "alias", "unlink", "consent", "erase"),
    "feedback": (
        "delivered", "opened", "clicked", "converted", "bounced", "failed", "complaint", "unsubscribed", "satisfaction",
    ),
}  # fmt: skip

CLASS_OF: Final[dict[str, str]] = {f"{cls}.{name}": cls for cls, names in TYPES.items() for name in names}

BEHAVIOUR: Final = ("click", "cart", "purchase")  # what is done on a visit

SECOND: Final = 1_000  # all times and durations are integer milliseconds
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

YEAR_2000: Final = 946_684_800_000  # nothing happened before it
YEAR_2100: Final = 4_102_444_800_000  # nothing is received after it: decayed sums would leave the range of a float
GREATEST: Final = 2**53 - 1  # of all whole numbers: beyond it other programs' JSON is not exact
LATE_AFTER: Final = DAY  # between what happened and its reception
RECEIVED_AHEAD: Final = 5 * SECOND  # a stamp further ahead of the broker is not believed
SESSION_GAP: Final = 30 * MINUTE

# digits after the point of a major unit, ISO 4217; two where nothing is said
MINOR_DIGITS: Final[Mapping[str, int]] = {
    code: digits
    for digits, codes in (
        (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
        (3, "BHD IQD JOD KWD LYD OMR TND"),
        (4, "CLF UYW"),
    )
    for code in codes.split()
}


def occurred_at(client_time: int, sent_at: int | None, received_at: int) -> int:
    """Return when an event happened, corrected for the skew of the client's clock.

    ``received_at - (sent_at - client_time)``; without ``sent_at`` the client
    is believed. A result in the future becomes ``received_at``. Milliseconds
    since 1970. Source: Segment's ``timestamp`` rule.

    >>> occurred_at(client_time=1000, sent_at=1500, received_at=9000)
    8500
    >>> occurred_at(client_time=9900, sent_at=None, received_at=9000)
    9000
    """
    happened = client_time if sent_at is None else received_at - (sent_at - client_time)
    return happened if happened < received_at else received_at  # a third of what min() takes


def is_late(happened: int, received: int) -> bool:
    """Tell whether an event came too late to start something (over a day)."""
    return received - happened > LATE_AFTER
