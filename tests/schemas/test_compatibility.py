"""The checker itself: it lets through what version 1 may do, and stops everything else."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeAlias

import pytest

from tests.schemas.compatibility import incompatibilities

Schema: TypeAlias = dict[str, Any]
Change: TypeAlias = Callable[[Schema], None]

INPUT_ID = "urn:journey:schema:events.cart.v1"
OUTPUT_ID = "urn:journey:schema:journey.trigger.v1"


def released(identifier: str) -> Schema:
    """Return a schema with one of everything that ours use."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": identifier,
        "type": "object",
        "required": ["type", "id"],
        "properties": {
            "type": {"type": "string"},
            "id": {"type": "string", "minLength": 1, "maxLength": 100},
            "time": {"type": "string", "pattern": "Z$"},
            "status": {"enum": ["granted", "denied"]},
            "action": {"type": "string", "x-open-enum": ["send", "show"]},
            "amount": {"anyOf": [{"type": "integer", "minimum": 0}, {"$ref": "#/$defs/absent"}]},
            "items": {"type": "array", "maxItems": 200, "items": {"$ref": "#/$defs/item"}},
            "traits": {"type": "object", "additionalProperties": {"type": ["string", "null"], "maxLength": 10}},
            "src": {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "prefixItems": [{"type": "string"}, {"type": "integer"}],
            },
        },
        "oneOf": [
            {"properties": {"type": {"const": "cart.added"}, "data": {"$ref": "#/$defs/data", "required": ["item"]}}},
            {"properties": {"type": {"const": "cart.viewed"}, "data": {"$ref": "#/$defs/data"}}},
        ],
        "$defs": {
            "absent": {"enum": [None, ""]},
            "item": {
                "type": "object",
                "required": ["item_id"],
                "properties": {
                    "item_id": {"type": "string", "maxLength": 128},
                    "quantity": {"type": "integer", "default": 1},
                },
            },
            "data": {"type": "object", "properties": {"item": {"$ref": "#/$defs/item"}, "note": {"type": "string"}}},
        },
    }


def change_the_id(s: Schema) -> None:
    s["$id"] = "urn:journey:schema:events.basket.v1"


def remove_a_field(s: Schema) -> None:
    del s["properties"]["time"]


def remove_a_field_of_a_definition(s: Schema) -> None:
    del s["$defs"]["data"]["properties"]["note"]


def rename_a_field(s: Schema) -> None:
    s["$defs"]["item"]["properties"]["count"] = s["$defs"]["item"]["properties"].pop("quantity")


def require_another_field(s: Schema) -> None:
    s["required"].append("time")


def require_another_field_of_a_branch(s: Schema) -> None:
    s["oneOf"][1]["properties"]["data"]["required"] = ["item"]


def retype_a_field(s: Schema) -> None:
    s["properties"]["id"] = {"type": "integer"}


def widen_the_type_of_a_field(s: Schema) -> None:
    s["$defs"]["item"]["properties"]["quantity"]["type"] = "number"


def accept_text_as_an_amount(s: Schema) -> None:
    s["properties"]["amount"]["anyOf"].append({"type": "string"})


def refuse_null(s: Schema) -> None:
    s["properties"]["traits"]["additionalProperties"]["type"] = "string"


def tighten_a_length(s: Schema) -> None:
    s["properties"]["id"]["maxLength"] = 99


def tighten_a_length_behind_a_reference(s: Schema) -> None:
    s["$defs"]["item"]["properties"]["item_id"]["maxLength"] = 127


def tighten_a_number_of_items(s: Schema) -> None:
    s["properties"]["items"]["maxItems"] = 199


def raise_a_minimum(s: Schema) -> None:
    s["properties"]["amount"]["anyOf"][0]["minimum"] = 1


def tighten_what_is_in_a_map(s: Schema) -> None:
    s["properties"]["traits"]["additionalProperties"]["maxLength"] = 9


def tighten_one_key_of_a_map(s: Schema) -> None:
    s["properties"]["traits"]["properties"] = {"email": {"type": ["string", "null"], "maxLength": 9}}


def add_a_limit(s: Schema) -> None:
    s["properties"]["type"]["maxLength"] = 50


def add_a_limit_beside_a_reference(s: Schema) -> None:
    s["properties"]["items"]["items"] = {"allOf": [{"$ref": "#/$defs/item"}, {"maxProperties": 5}]}


def add_a_pattern(s: Schema) -> None:
    s["properties"]["id"]["pattern"] = "^m-"


def change_a_pattern(s: Schema) -> None:
    s["properties"]["time"]["pattern"] = "^2.*Z$"


def forbid_a_value(s: Schema) -> None:
    s["properties"]["id"]["not"] = {"pattern": "null"}


def forbid_unknown_fields(s: Schema) -> None:
    s["$defs"]["data"]["additionalProperties"] = False


def shrink_an_enum(s: Schema) -> None:
    s["properties"]["status"]["enum"].remove("denied")


def add_to_a_closed_enum(s: Schema) -> None:
    s["properties"]["status"]["enum"].append("revoked")


def turn_text_into_an_enum(s: Schema) -> None:
    s["properties"]["id"] = {"type": "string", "minLength": 1, "maxLength": 100, "enum": ["m-1"]}


def turn_an_enum_into_text(s: Schema) -> None:
    s["properties"]["status"] = {"type": "string"}


def shrink_an_open_enum(s: Schema) -> None:
    s["properties"]["action"]["x-open-enum"].remove("show")


def close_an_open_enum(s: Schema) -> None:
    s["properties"]["action"] = {"enum": ["send", "show"]}


def remove_a_branch(s: Schema) -> None:
    s["oneOf"].pop()


def rename_a_branch(s: Schema) -> None:
    s["oneOf"][1]["properties"]["type"]["const"] = "cart.seen"


def remove_all_branches(s: Schema) -> None:
    del s["oneOf"]


def add_a_choice(s: Schema) -> None:
    s["anyOf"] = [{"required": ["time"]}, {"required": ["status"]}]


def change_a_default(s: Schema) -> None:
    s["$defs"]["item"]["properties"]["quantity"]["default"] = 2


def lengthen_a_tuple(s: Schema) -> None:
    s["properties"]["src"] |= {"prefixItems": [{"type": "string"}, {"type": "integer"}, {}], "maxItems": 3}


def swap_the_places_of_a_tuple(s: Schema) -> None:
    s["properties"]["src"]["prefixItems"].reverse()


def use_a_keyword_nobody_judged(s: Schema) -> None:
    s["properties"]["items"]["uniqueItems"] = True


BREAKING: tuple[Change, ...] = (
    change_the_id,
    remove_a_field,
    remove_a_field_of_a_definition,
    rename_a_field,
    require_another_field,
    require_another_field_of_a_branch,
    retype_a_field,
    widen_the_type_of_a_field,
    accept_text_as_an_amount,
    refuse_null,
    tighten_a_length,
    tighten_a_length_behind_a_reference,
    tighten_a_number_of_items,
    raise_a_minimum,
    tighten_what_is_in_a_map,
    tighten_one_key_of_a_map,
    add_a_limit,
    add_a_limit_beside_a_reference,
    add_a_pattern,
    change_a_pattern,
    forbid_a_value,
    forbid_unknown_fields,
    shrink_an_enum,
    add_to_a_closed_enum,
    turn_text_into_an_enum,
    turn_an_enum_into_text,
    shrink_an_open_enum,
    close_an_open_enum,
    remove_a_branch,
    rename_a_branch,
    remove_all_branches,
    add_a_choice,
    change_a_default,
    lengthen_a_tuple,
    swap_the_places_of_a_tuple,
    use_a_keyword_nobody_judged,
)


@pytest.mark.parametrize("identifier", [INPUT_ID, OUTPUT_ID])
@pytest.mark.parametrize("change", BREAKING)
def test_a_breaking_change_is_found(change: Change, identifier: str) -> None:
    old, new = released(identifier), released(identifier)
    change(new)
    assert incompatibilities(old, new)


def test_a_finding_names_the_place_and_both_values() -> None:
    old, new = released(INPUT_ID), released(INPUT_ID)
    tighten_a_length(new)
    assert incompatibilities(old, new) == ["/id: maxLength became tighter: 100 -> 99"]


def test_every_breaking_change_is_found_when_all_come_together() -> None:
    old, new = released(INPUT_ID), released(INPUT_ID)
    remove_a_field(new)
    tighten_a_length(new)
    remove_a_branch(new)
    assert incompatibilities(old, new) == [
        "/id: maxLength became tighter: 100 -> 99",
        "/time: removed",
        "/oneOf: branch removed: cart.viewed",
    ]


def add_an_optional_field(s: Schema) -> None:
    s["properties"]["colour"] = {"type": ["string", "null"], "maxLength": 20}
    s["$defs"]["item"]["properties"]["weight"] = {"type": "number"}


def add_a_branch(s: Schema) -> None:
    s["oneOf"].append({"properties": {"type": {"const": "cart.shared"}, "data": {"required": ["item"]}}})


def reorder_the_branches(s: Schema) -> None:
    s["oneOf"].reverse()


def add_to_an_open_enum(s: Schema) -> None:
    s["properties"]["action"]["x-open-enum"].append("notify")


def loosen_limits(s: Schema) -> None:
    s["properties"]["id"]["maxLength"] = 255
    s["properties"]["items"]["maxItems"] = 500
    s["properties"]["amount"]["anyOf"][0]["minimum"] = -1
    del s["$defs"]["item"]["properties"]["item_id"]["maxLength"]


def accept_null_for_an_optional_field(s: Schema) -> None:
    s["$defs"]["data"]["properties"]["note"]["type"] = ["string", "null"]


def describe_better(s: Schema) -> None:
    s["description"] = s["properties"]["id"]["description"] = "Better words."
    s["properties"]["id"]["examples"] = ["m-1"]


def move_a_definition(s: Schema) -> None:
    s["$defs"]["product"] = s["$defs"].pop("item")
    s["properties"]["items"]["items"] = {"$ref": "#/$defs/product"}
    s["$defs"]["data"]["properties"]["item"] = {"allOf": [{"$ref": "#/$defs/product"}]}


COMPATIBLE: tuple[Change, ...] = (
    add_an_optional_field,
    add_a_branch,
    reorder_the_branches,
    add_to_an_open_enum,
    loosen_limits,
    accept_null_for_an_optional_field,
    describe_better,
    move_a_definition,
)


@pytest.mark.parametrize("identifier", [INPUT_ID, OUTPUT_ID])
@pytest.mark.parametrize("change", COMPATIBLE)
def test_what_version_one_may_do_is_let_through(change: Change, identifier: str) -> None:
    old, new = released(identifier), released(identifier)
    change(new)
    assert new != old
    assert incompatibilities(old, new) == []


def no_longer_require(s: Schema) -> None:
    s["required"].remove("id")


def let_a_required_field_be_null(s: Schema) -> None:
    s["properties"]["id"]["type"] = ["string", "null"]


def drop_a_pattern(s: Schema) -> None:
    del s["properties"]["time"]["pattern"]


@pytest.mark.parametrize("change", [no_longer_require, let_a_required_field_be_null, drop_a_pattern])
def test_asking_for_less_is_a_loosened_limit_but_promising_less_breaks_readers(change: Change) -> None:
    asked, promised = released(INPUT_ID), released(OUTPUT_ID)
    change(asked)
    change(promised)
    assert incompatibilities(released(INPUT_ID), asked) == []
    assert incompatibilities(released(OUTPUT_ID), promised) != []


def test_opening_a_closed_object_is_adding_optional_fields() -> None:
    old = {"type": "object", "properties": {"k": {"const": "void"}}, "additionalProperties": False}
    new = deepcopy(old)
    new["properties"] = {"k": {"const": "void"}, "at": {"type": "integer"}}
    assert incompatibilities(old, new) == []
    del new["additionalProperties"]
    assert incompatibilities(old, new) == []


def test_a_schema_that_contains_itself_is_compared() -> None:
    old = {"type": "object", "properties": {"inner": {"$ref": "#"}, "name": {"type": "string", "maxLength": 5}}}
    new = deepcopy(old)
    assert incompatibilities(old, new) == []
    new["properties"] = {"inner": {"$ref": "#"}, "name": {"type": "string", "maxLength": 4}}
    assert "/name: maxLength became tighter: 5 -> 4" in incompatibilities(old, new)


def test_a_reference_to_nothing_or_to_elsewhere_is_an_error() -> None:
    for reference in ("#/$defs/nobody", "urn:journey:schema:events.cart.v1"):
        with pytest.raises(KeyError):
            incompatibilities({"$ref": reference}, {"$ref": reference})
