"""The AsyncAPI document: it parses, points to what is there, and says what the topics are."""

from __future__ import annotations

from typing import Any, Final

import pytest
import yaml

from tests.schemas.catalogue import FOLDER, SCHEMAS, Json
from tests.schemas.compatibility import resolve

DAY_MS: Final = 86_400_000
FOR_EVER: Final = -1
# topic -> schema of its values, partitions, retention in milliseconds
TOPICS: Final = {
    "events.click": ("events.click.v1", 8, 30 * DAY_MS),
    "events.cart": ("events.cart.v1", 8, 30 * DAY_MS),
    "events.purchase": ("events.purchase.v1", 8, 30 * DAY_MS),
    "events.profile": ("events.profile.v1", 8, 30 * DAY_MS),
    "events.feedback": ("events.feedback.v1", 8, 30 * DAY_MS),
    "journey.control": ("journey.control.v1", 1, FOR_EVER),
    "journey.journal": ("journey.page.v1", 8, FOR_EVER),
    "journey.triggers": ("journey.trigger.v1", 8, 30 * DAY_MS),
    "journey.dead_letters": ("journey.dead_letter.v1", 8, 14 * DAY_MS),
    "journey.samples": ("journey.sample.v1", 8, 400 * DAY_MS),
    "journey.models": ("journey.model.v1", 1, FOR_EVER),
    "journey.alarms": ("journey.alarm.v1", 1, 90 * DAY_MS),
}
COMPACTED: Final = {"journey.models"}
# topics whose records are keyed by the customer key
BY_CUSTOMER: Final = {topic for topic in TOPICS if topic.startswith("events.")} | {"journey.triggers"}


class UniqueKeysLoader(yaml.SafeLoader):
    """YAML in which a repeated key is an error instead of a silent loss."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.constructor.ConstructorError(problem="a key is repeated", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


@pytest.fixture(scope="module")
def document() -> dict[str, Json]:
    text = (FOLDER / "asyncapi.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Json] = yaml.load(text, Loader=UniqueKeysLoader)  # noqa: S506 - a SafeLoader that is stricter
    return loaded


def references(node: Json) -> list[str]:
    """Return every ``$ref`` below a node."""
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [reference for value in node.values() for reference in references(value)]
    return [reference for value in node for reference in references(value)] if isinstance(node, list) else []


def followed(node: Json, document: dict[str, Json]) -> Json:
    """Return what a node means: itself, or what its ``$ref`` points to in the document."""
    return resolve(node["$ref"], document) if "$ref" in node else node


def messages_of(channel: Json, document: dict[str, Json]) -> list[Json]:
    return [followed(message, document) for message in channel["messages"].values()]


def channel_by_topic(document: dict[str, Json]) -> dict[str, Json]:
    return {channel["address"]: channel for channel in document["channels"].values()}


def test_it_is_an_asyncapi_3_document(document: dict[str, Json]) -> None:
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    assert {"info", "channels", "operations", "components"} <= document.keys()


def test_every_reference_points_to_something(document: dict[str, Json]) -> None:
    for reference in references(document):
        if reference.startswith("#"):
            resolve(reference, document)
        else:
            assert (FOLDER / reference).is_file(), reference


def test_it_covers_every_topic_and_no_other(document: dict[str, Json]) -> None:
    assert channel_by_topic(document).keys() == TOPICS.keys()


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_a_topic_has_the_promised_partitions_and_retention(document: dict[str, Json], topic: str) -> None:
    _, partitions, retention = TOPICS[topic]
    kafka = followed(channel_by_topic(document)[topic]["bindings"], document)["kafka"]
    assert kafka["partitions"] == partitions
    assert kafka["topicConfiguration"]["retention.ms"] == retention
    assert kafka["topicConfiguration"]["cleanup.policy"] == ["compact" if topic in COMPACTED else "delete"]


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_the_broker_stamps_raw_records_and_no_others(document: dict[str, Json], topic: str) -> None:
    kafka = followed(channel_by_topic(document)[topic]["bindings"], document)["kafka"]
    stamped = kafka["topicConfiguration"].get("message.timestamp.type") == "LogAppendTime"
    assert stamped == topic.startswith("events.")


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_the_values_of_a_topic_follow_its_schema(document: dict[str, Json], topic: str) -> None:
    (message,) = messages_of(channel_by_topic(document)[topic], document)
    assert message["payload"] == {
        "schemaFormat": "application/schema+json;version=draft-2020-12",
        "schema": {"$ref": f"./{TOPICS[topic][0]}.json"},
    }


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_what_is_keyed_by_the_customer_says_so(document: dict[str, Json], topic: str) -> None:
    (message,) = messages_of(channel_by_topic(document)[topic], document)
    bindings = followed(message.get("bindings", {}), document)
    keyed = bindings.get("kafka", {}).get("key", {}).get("pattern") == "^[ua]:"
    assert keyed == (topic in BY_CUSTOMER)


def test_every_schema_but_the_one_of_the_read_api_is_the_payload_of_a_topic() -> None:
    assert {schema for schema, _, _ in TOPICS.values()} == set(SCHEMAS) - {"journey.customer.v1"}


def test_each_party_sends_and_receives_what_it_should(document: dict[str, Json]) -> None:
    done = {
        (tag["name"], operation["action"], followed(operation["channel"], document)["address"])
        for operation in document["operations"].values()
        for tag in operation["tags"]
    }
    website = {("website", "send", topic) for topic in TOPICS if topic.startswith("events.")}
    assert done == website | {
        ("automation", "receive", "journey.triggers"),
        ("automation", "send", "events.feedback"),
        ("operator", "send", "journey.control"),
        ("operator", "receive", "journey.journal"),
        ("operator", "receive", "journey.dead_letters"),
        ("operator", "receive", "journey.samples"),
        ("operator", "receive", "journey.models"),
        ("operator", "receive", "journey.alarms"),
    }


def test_an_operation_uses_messages_of_its_own_channel(document: dict[str, Json]) -> None:
    for name, operation in document["operations"].items():
        for message in operation["messages"]:
            assert message["$ref"].startswith(operation["channel"]["$ref"] + "/messages/"), name


def test_a_repeated_key_is_noticed() -> None:
    with pytest.raises(yaml.YAMLError):
        yaml.load("{a: 1, a: 2}", Loader=UniqueKeysLoader)  # noqa: S506 - a SafeLoader that is stricter
