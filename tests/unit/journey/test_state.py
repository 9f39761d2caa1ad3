from __future__ import annotations

import pytest

from journey.engine import Shard
from journey.entries import encode
from journey.errors import FoldVersionError, StateError, StateVersionError
from journey.state import (
    FOLD_VERSION,
    STATE_VERSION,
    Customer,
    Partition,
    new_customer,
    new_partition,
    partition_key,
    read_customer,
    read_partition,
    stamp,
)
from tests.factories import NOON


def test_records_read_back_as_they_were_written() -> None:
    customer, partition = new_customer("u:1", NOON), new_partition()
    assert read_customer(encode(customer)) == customer
    assert read_partition(encode(partition), 0) == partition


def test_equal_records_have_equal_bytes_whatever_the_order_of_their_parts() -> None:
    customer = new_customer("u:1", NOON)
    assert encode(dict(reversed(customer.items()))) == encode(customer)


def test_a_stamp_is_read_from_either_kind_of_record() -> None:
    customer: Customer = {**new_customer("u:1", NOON), "at": 7}
    partition: Partition = {**new_partition(), "at": 8}
    assert stamp(encode(customer)) == 7
    assert stamp(encode(partition)) == 8


def test_no_customer_key_is_the_key_of_a_partition_record() -> None:
    assert partition_key(3) == b"\0partition/3"
    assert not b"u:\0partition/3".startswith(b"\0")


def test_a_customer_of_newer_code_is_refused() -> None:
    newer: Customer = {**new_customer("u:1", NOON), "v": STATE_VERSION + 1}
    with pytest.raises(StateVersionError) as refused:
        read_customer(encode(newer))
    assert (refused.value.found, refused.value.newest_known) == (STATE_VERSION + 1, STATE_VERSION)
    assert "start the newer worker" in str(refused.value)


def test_a_partition_of_newer_code_is_refused() -> None:
    newer: Partition = {**new_partition(), "v": STATE_VERSION + 1, "fold": FOLD_VERSION + 1}
    with pytest.raises(StateVersionError):
        read_partition(encode(newer), 0)


@pytest.mark.parametrize("fold", [FOLD_VERSION - 1, FOLD_VERSION + 1])
def test_state_of_another_fold_is_refused_older_or_newer(fold: int) -> None:
    other: Partition = {**new_partition(), "fold": fold}
    stored = {partition_key(5): encode(other)}
    with pytest.raises(FoldVersionError, match=f"journal partition 5 was folded by fold version {fold}") as refused:
        Shard(5, stored.get, stored.items())
    assert (refused.value.partition, refused.value.found, refused.value.ours) == (5, fold, FOLD_VERSION)


@pytest.mark.parametrize("error", StateError.__subclasses__())
def test_whoever_is_stopped_is_told_what_to_do(error: type[StateError]) -> None:
    assert "Operator:" in (error.__doc__ or "")
