"""Models as they travel: what is believed, and that nothing else is decoded."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import orjson
import pytest

from journey.entries import encode
from journey.models.baskets import Baskets
from journey.models.rate import Rate
from journey.samples import CATALOGUE, SCHEMAS
from streams import snapshots
from streams.errors import SignatureError, SnapshotError
from streams.settings import Settings
from streams.snapshots import (
    MOST_BYTES,
    Keys,
    check_fit,
    check_loads,
    key_id,
    keys_of,
    microseconds,
    named,
    payload_of,
    read,
    sign,
)

FIRST, OLD = Keys(b"the very first key"), Keys(b"the key of before", (b"the very first key",))
NEW = Keys(b"the key of today", (OLD.current, FIRST.current))
PAYLOAD = {"role": "champion", "class": "lr/1", "w": [0.5, -1.25], "n": 1_795_162_442_000}
TRAINED = {
    "samples": 500, "metrics": {"log_loss": 0.27, "baseline_log_loss": 0.31}, "trust": "trusted",
    "at": 1_795_162_442_000,
}  # fmt: skip


def signed(keys: Keys = NEW, **told: Any) -> bytes:
    fields: dict[str, Any] = {
        "model": "churn", "number": 42, "parent": 41, "schema": "churn/1", "trained_through": {"0": 5000},
        "trained": TRAINED, "payload": PAYLOAD,
    }  # fmt: skip
    return sign(keys, **(fields | told))


def altered(**fields: Any) -> bytes:
    """Return a snapshot whose envelope was changed and signed again, as only who has the key can."""
    envelope = orjson.loads(signed()) | fields
    payload = envelope.pop("payload_b64")
    envelope["hmac"] = snapshots._mac(NEW.current, envelope)
    return encode(envelope | {"payload_b64": payload})


def test_what_was_signed_is_read() -> None:
    snapshot = read(signed(), NEW)
    assert (snapshot.model, snapshot.version, payload_of(snapshot)) == ("churn", 42, PAYLOAD)
    assert snapshot.envelope["trained_through"] == {"0": 5000}
    assert (snapshot.envelope["slot"], snapshot.envelope["role"]) == ("churn", "champion")
    assert snapshot.envelope["library"].keys() == {"learners", "python", "river", "numpy", "scipy"}


def test_the_same_model_has_the_same_bytes() -> None:
    assert signed() == signed(payload=dict(reversed(PAYLOAD.items())))


def test_after_any_number_of_changes_of_the_key_all_that_were_told_are_believed() -> None:
    assert [read(signed(keys), NEW).version for keys in (OLD, FIRST)] == [42, 42]
    assert read(signed(FIRST), OLD).version == 42
    with pytest.raises(SignatureError, match=r"model churn/42 is signed with the key .*JOURNEY_MODEL_KEY"):
        read(signed(NEW), OLD)


def test_a_key_is_not_told_by_its_name() -> None:
    told = orjson.loads(signed())
    assert told["key_id"] == key_id(NEW.current)
    assert NEW.current not in signed()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 43), ("model", "intent"), ("trust", "cold"), ("sha256", "00"), ("hmac", "00"), ("hmac", None),
        ("added", 1), ("key_id", "00"), ("payload_b64", b64encode(b'{"role":"champion"}').decode()),
        ("payload_b64", "not base64"), ("payload_b64", None),
    ],
)  # fmt: skip
def test_whatever_is_changed_in_it_is_noticed(field: str, value: object) -> None:
    forged = orjson.loads(signed()) | {field: value}
    with pytest.raises(SignatureError):
        read(encode(forged), NEW)


@pytest.mark.parametrize("value", [None, b"", b"no json", b"[]", b"{}", b'{"model":"churn","version":"x"}'])
def test_what_is_no_snapshot_is_said_to_be_none(value: bytes | None) -> None:
    with pytest.raises(SnapshotError, match="is no snapshot"):
        read(value, NEW)


def test_a_newer_format_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(SnapshotError, match="version 2 of the format, we read 1: start the newer worker"):
        read(altered(v=2), NEW)


@pytest.mark.parametrize("kind", ["pickle", "joblib", None])
def test_nothing_but_json_is_ever_read(kind: str | None) -> None:
    with pytest.raises(SnapshotError, match="only json is ever read"):
        read(altered(kind=kind), NEW)


def test_a_signature_is_checked_before_anything_else_is_looked_at() -> None:
    forged = orjson.loads(signed()) | {"kind": "pickle", "v": 9, "payload_b64": "gASVAAAAAA=="}
    with pytest.raises(SignatureError, match="changed after it was signed"):
        read(encode(forged), NEW)


def test_a_model_as_large_as_may_be_fits_and_one_byte_more_does_not() -> None:
    rest = len(encode({"text": ""}))
    value = signed(payload={"text": "x" * (MOST_BYTES - rest)})
    assert len(value) < 900_000 - 1000
    assert read(value, NEW).version == 42
    with pytest.raises(SnapshotError, match="600,001 bytes"):
        signed(payload={"text": "x" * (MOST_BYTES - rest + 1)})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_model_with_what_is_no_number_is_not_signed(value: float) -> None:
    with pytest.raises(SnapshotError, match=r"churn/42: deep\[0\]\.n is no number"):
        signed(payload={"deep": [{"n": value}]})


@pytest.mark.parametrize(("weight", "is_fine"), [(1e6, True), (-1e6, True), (1.1e6, False), (-1e300, False)])
def test_weights_that_exploded_are_refused(weight: float, is_fine: bool) -> None:
    for payload in ({"w": [0.0, weight]}, {"model": {"weights": {"rec": weight}}}, {"bias": weight}):
        if is_fine:
            assert signed(payload=payload)
        else:
            with pytest.raises(SnapshotError, match="exploded"):
                signed(payload=payload)


def test_a_time_is_no_weight() -> None:
    assert signed(payload={"at": 1_795_162_442_000, "squares": [1e9]})


def test_a_payload_that_was_signed_elsewhere_is_looked_at_too() -> None:
    snapshot = read(signed(), NEW)
    for payload, text in ((b"[1]", "no JSON object"), (b"{", "no JSON object"), (b'{"w":[2e6]}', "exploded")):
        with pytest.raises(SnapshotError, match=text):
            payload_of(snapshot._replace(payload=payload))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"schema": "churn/9"}, "has the schema 'churn/9'"),
        ({"catalogue": "0"}, f"catalogue '0' of the features, ours is {CATALOGUE}"),
        ({"metrics": {"log_loss": 0.32, "baseline_log_loss": 0.31}}, "log-loss 0.3200 is above the baseline's 0.3100"),
        ({"metrics": {"log_loss": None, "baseline_log_loss": 0.31}}, "its log-loss is no number"),
    ],
)
def test_what_would_score_badly_is_not_adopted(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(SnapshotError, match=text):
        check_fit(read(altered(**fields), NEW).envelope)


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"metrics": {"log_loss": 0.31, "baseline_log_loss": 0.31}}, {"metrics": {}},
        {"trust": "shadow", "metrics": {"log_loss": 0.9, "baseline_log_loss": 0.31}},
    ],
)  # fmt: skip
def test_what_does_not_claim_more_than_it_keeps_is_adopted(fields: dict[str, Any]) -> None:
    check_fit(read(altered(**fields), NEW).envelope)


def test_the_keys_are_those_of_the_settings() -> None:
    told = Settings(model_key="a secret of sixteen", model_key_old="the secret of before, the secret before that")
    assert keys_of(told) == Keys(b"a secret of sixteen", (b"the secret of before", b"the secret before that"))
    assert keys_of(Settings(model_key="a secret of sixteen")) == Keys(b"a secret of sixteen")
    assert "secret" not in repr(told)


def test_the_envelope_says_of_trust_what_the_model_itself_says() -> None:
    def trust(**payload: Any) -> object:
        return read(signed(payload=PAYLOAD | payload), NEW).envelope["trust"]

    assert (trust(), trust(trust="cold"), trust(trust="shadow")) == ("trusted", "cold", "shadow")


def ranks(**fields: Any) -> dict[str, Any]:
    """Return what the slot of recommendations can be filled with."""
    state = Baskets().published(1_795_162_442_000)
    return {"slot": "recs", "state": state, "trust": "trusted", "labels": 0} | fields


def test_a_model_that_the_engine_can_load_is_fine() -> None:
    check_loads("recs", 1, ranks(), "recs")
    check_loads("rules", 1, {"trust": "cold", "state": {}}, "rules")


def test_how_long_a_score_takes_is_measured_where_there_are_scores() -> None:
    rate = Rate(100, 30).state()
    payload = {
        "slot": "churn", "state": rate, "fallback": rate, "trust": "trusted", "labels": 100, "schema": "churn/1",
        "names": list(SCHEMAS["churn/1"]),
    }  # fmt: skip
    assert 0.0 < microseconds(check_loads("churn", 1, payload, "churn")) < 10_000.0
    assert microseconds(check_loads("recs", 1, ranks(), "recs")) == 0.0


@pytest.mark.parametrize(
    ("model", "slot", "fields", "says"),
    [
        ("recs.content", "recs", {"state": {"class": "content/1"}}, "cannot be loaded in the slot recs: .*content/1"),
        ("recs", "recs", {"state": {}}, "cannot be loaded in the slot recs"),
        ("recs", "churn", {}, "cannot do what the slot churn does: it is a Ranker, no Classifier"),
        ("rules", "recs", {}, "it is a Loaded, no Ranker"),
        ("recs.forest", "recs", {"state": None, "size": 293_038}, "not for use: with 293,038 bytes it is too large"),
        ("clv", "clv", {"state": None, "fault": "too few buyers"}, "not for use: too few buyers"),
        ("clv", "clv", {"state": None}, "not for use: it is none"),
    ],
)
def test_what_the_engine_would_stop_at_is_refused(model: str, slot: str, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SnapshotError, match=f"model {model}/9 .*{says}"):
        check_loads(model, 9, ranks(**fields), slot)


@pytest.mark.parametrize("key", [None, b"", b"churn", b"churn/", b"/4", b"churn/x4"])
def test_a_key_that_names_no_version_is_none(key: bytes | None) -> None:
    assert named(key) is None
