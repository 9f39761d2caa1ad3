"""The customer table as Faust sees it: it tells what is in the changelog, and when partitions come and go."""

from __future__ import annotations

from typing import Any

import faust

from streams import faust_fixes
from streams.customers import Customers


class CustomerTable(Customers, faust.Table):
    """The customers in the memory store of a Faust table, whose writes Faust does not do."""

    @property
    def records(self) -> dict[bytes, bytes]:  # type: ignore[override]  # Faust makes its store when first asked
        """All records by key."""
        found: dict[bytes, bytes] = self.data.data
        return found

    @property
    def owners(self) -> dict[bytes, int]:  # type: ignore[override]  # see above
        """The journal partition of each key."""
        found: dict[bytes, int] = self.data._key_partition
        return found

    def apply_changelog_batch(self, batch: list[Any]) -> None:
        """Recover. Faust would log a failure, and wait for ever."""
        with faust_fixes.fail_stop():
            self.recover([event.message for event in batch])
