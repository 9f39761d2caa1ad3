"""How seldom Python looks for cycles, and how seldom memory is given back. A fetch is thousands of short lives."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

THRESHOLDS: Final = (100_000, 50, 1000)
# of glibc's mallopt(3): what to set, and to what
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
KEPT_BYTES: Final = 256 << 20  # free memory at the top of the heap that is kept
MAPPED_BYTES: Final = 32 << 20  # buffers from this size on are mapped, and given back, alone; glibc allows no more


def calm() -> None:
    """Let what is loaded by now stay for ever, and look for cycles seldom: the default costs a tenth to a third.

    Memory that one fetch has freed is kept for the next one: page faults for
    getting it anew were a fifth of ingest's time. One arena is enough, as
    only one thread at a time allocates.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library: it works, and costs more
    mallopt(_ARENA_MAX, 1)
    mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(_MMAP_THRESHOLD, MAPPED_BYTES)
