"""The customer table as Faust sees it: a table whose changelog it assigns, and whose recovery is done in bulk.

Faust gives each worker the changelog partitions that belong to its journal
partitions, and says when they came and went. Records are not Faust's: they are
kept by ``streams.customers``, and its own store stays empty.
"""

from __future__ import annotations

import asyncio
from typing import Any

import faust

from streams import faust_fixes
from streams.recovery import Recovery


class CustomerTable(faust.Table):
    """A table of bytes to canonical JSON; see `Customers` for what it holds."""

    def __init__(self, *args: Any, recovery: Recovery, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._recovery_in_bulk = recovery
        self._ends: dict[int, int] = {}

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        """Look where the changelog ends, so that Faust finds nothing to recover one by one."""
        name = self.changelog_topic_name
        self._ends = await self._recovery_in_bulk.ends(tp.partition for tp in assigned if tp.topic == name)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    def persisted_offset(self, tp: Any) -> int | None:
        """Return the last offset of a changelog partition; None when it is unknown, and Faust reads it for nothing."""
        end = self._ends.get(tp.partition)
        return None if end is None else end - 1

    def apply_changelog_batch(self, batch: Any) -> None:
        """Do nothing: what Faust comes across by itself is read by the load, too."""

    async def on_recovery_completed(self, active_tps: Any, standby_tps: Any) -> None:
        """Load what was assigned, before the sources are resumed. A new assignment cancels this."""
        await super().on_recovery_completed(active_tps, standby_tps)
        try:
            await self._recovery_in_bulk.load({tp.partition for tp in active_tps})
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # Faust would log it, and wait for ever
            faust_fixes.leave(error)
