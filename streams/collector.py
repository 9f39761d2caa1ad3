"""How seldom Python looks for cycles. A fetch is thousands of objects that all live for a moment, none in a cycle."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (100_000, 50, 1000)


def calm() -> None:
    """Let what is loaded by now stay for ever, and look for cycles seldom: the default costs a tenth to a third."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
