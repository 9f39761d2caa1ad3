from __future__ import annotations

import pytest

from streams.errors import SettingsError
from streams.settings import ELSEWHERE, PREFIX, Settings, load


def test_without_an_environment_everything_has_a_value() -> None:
    assert load({}) == Settings()


def test_a_setting_is_an_environment_variable() -> None:
    told = {"JOURNEY_KAFKA_URL": "k:1,k:2", "JOURNEY_PARTITIONS": "3", "JOURNEY_SESSION_TIMEOUT": "7.5", "HOME": "/"}
    settings = load(told)
    assert (settings.kafka_url, settings.partitions, settings.session_timeout) == ("k:1,k:2", 3, 7.5)


def test_a_mistyped_name_fails_instead_of_doing_nothing() -> None:
    with pytest.raises(SettingsError, match="JOURNEY_PARTITION: no such setting, did you mean JOURNEY_PARTITIONS"):
        load({"JOURNEY_PARTITION": "3"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PARTITIONS", "0"),
        ("PARTITIONS", "eight"),
        ("SESSION_TIMEOUT", "0.1"),
        ("TOPIC_PREFIX", "with space"),
        ("BATCH_BYTES", "999999999"),
    ],
)
def test_a_value_out_of_range_is_told_by_its_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=PREFIX + name):
        load({PREFIX + name: value})


@pytest.mark.parametrize("old", ["", "too short", "the key of before,", "the key of before,too short"])
def test_every_key_of_before_is_as_long_as_a_key_has_to_be(old: str) -> None:
    with pytest.raises(SettingsError, match=r"JOURNEY_MODEL_KEY_OLD: .*each key has at least 16 characters") as refused:
        load({"JOURNEY_MODEL_KEY_OLD": old})
    assert "before" not in str(refused.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        load({"JOURNEY_PARTITIONS": "0", "JOURNEY_TYPO": "1"})
    assert "JOURNEY_PARTITIONS" in str(refused.value)
    assert "JOURNEY_TYPO" in str(refused.value)


def test_what_tests_and_benchmarks_read_is_no_mistake() -> None:
    assert load(dict.fromkeys(ELSEWHERE, "x")) == Settings()


def test_an_empty_redis_url_means_no_read_model() -> None:
    assert load({"JOURNEY_REDIS_URL": ""}).redis_url == ""


def test_topics_and_groups_carry_the_prefix() -> None:
    settings = Settings(topic_prefix="shop-1.")
    assert settings.topic("journey.journal") == "shop-1.journey.journal"
    assert settings.app_id("ingest") == "shop-1.journey-ingest"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().partitions = 9  # type: ignore[misc]  # that it is refused is what is tested
