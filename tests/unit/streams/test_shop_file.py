from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from journey.conditions import Declared
from journey.entries import encode
from streams import cli_config
from streams.arrivals import Parsed
from streams.errors import FileFormatError
from streams.records import parse_control
from streams.shop_file import (
    MOST_BYTES,
    MOST_SEGMENTS,
    LostConfigError,
    ShopFileError,
    checked,
    protected_by,
    read,
    read_file,
    time_zones,
)
from tests.factories import NOON, Json, Raw, loaded
from tests.schemas.catalogue import validator

EXAMPLE = Path(__file__).parents[3] / "examples" / "shop.yaml"
SHOP = "shop: {currency: EUR, time_zone: Europe/Berlin}\n"


def config_of(source: str) -> Json:
    return read(source.encode()).config


def mistakes(source: str | bytes) -> list[str]:
    with pytest.raises(ShopFileError) as refused:
        read(source if isinstance(source, bytes) else source.encode())
    return [line.removeprefix("shop.yaml:") for line in str(refused.value).splitlines()]


class TestWhatIsDeclared:
    def test_a_file_becomes_canonical_json_known_by_its_hash(self) -> None:
        source = "segments: {vip: orders.revenue_minor >= 500 EUR}\n" + SHOP
        shop = read(source.encode())
        assert shop.config == {
            "v": 1,
            "shop": {"consent": "opt_in", "currency": "EUR", "holdout_per_10000": 0, "time_zone": "Europe/Berlin"},
            "segments": {"vip": "orders.revenue_minor >= 500 EUR"},
        }
        assert shop.encoded == encode(shop.config)
        assert orjson.loads(shop.encoded) == shop.config
        assert shop.sha256 == sha256(shop.encoded).hexdigest()
        assert Declared.from_config(shop.config).names == ("orders.revenue_minor",)

    def test_order_comments_and_quotes_are_not_part_of_it(self) -> None:
        one = read(f"{SHOP}segments:\n  b: trait.x == 1 # why\n  a: trait.y\n".encode())
        other = read(
            b"segments: {a: 'trait.y', b: \"trait.x == 1\"}\nshop:\n  time_zone: Europe/Berlin\n  currency: 'EUR'\n"
        )
        assert one == other

    @pytest.mark.parametrize(
        ("told", "parts"), [("0%", 0), ("5%", 500), ("2.5%", 250), ("0.01%", 1), ("12.34%", 1234), ("100%", 10_000)]
    )
    def test_a_holdout_is_a_share_in_parts_of_10000(self, told: str, parts: int) -> None:
        config = config_of(f"shop: {{currency: EUR, time_zone: UTC, holdout: {told}, consent: opt_out}}")
        assert config["shop"]["holdout_per_10000"] == parts
        assert config["shop"]["consent"] == "opt_out"

    def test_norway_is_a_country(self) -> None:
        config = config_of(f"{SHOP}segments:\n  no: trait.country == 'NO'\n  on: trait.on == true\n  y: trait.y")
        assert sorted(config["segments"]) == ["no", "on", "y"]

    def test_items_that_cannot_be_had_are_kept_once_in_order_and_only_where_some_are_told(self) -> None:
        config = config_of(f"{SHOP}unavailable: [p-9, 'winter boots', p-12, p-9, 0042]")
        assert config["unavailable"] == ["0042", "p-12", "p-9", "winter boots"]
        assert config["v"] == 2, "a program that knows nothing of it is to refuse it"
        assert Declared.from_config(config).unavailable == {"0042", "p-12", "p-9", "winter boots"}
        config = config_of(SHOP)  # a file of before has the hash of before
        assert (config["v"], "unavailable" in config) == (1, False)

    def test_the_example_is_a_file_that_can_be_used(self) -> None:
        shop = read_file(EXAMPLE)
        declared = Declared.from_config(shop.config)
        known: Json = {
            "trait.country": "DE", "trait.interests": ["outdoor", "music"], "trait.birth_year": 1994,
            "orders.count": 3, "orders.recency_days": 10.0, "orders.revenue_minor": 61_000, "orders.currency": "EUR",
            "stage": "use",
        }  # fmt: skip
        assert declared.segments(lambda name: known.get(name)) == [
            "born_in_the_nineties", "dach", "germany", "outdoor", "regular", "vip",
        ]  # fmt: skip
        assert declared.segments(lambda name: None) == ["where_is_not_known"]
        (warning,) = shop.warnings
        assert warning.startswith("segments.born_in_the_nineties asks for trait.birth_year: age is a protected trait.")


class TestProtectedTraits:
    @pytest.mark.parametrize(
        ("name", "tells"),
        [
            ("trait.gender", "sex and gender"), ("trait.Gender", "sex and gender"), ("trait.is_male", "sex and gender"),
            ("trait.age", "age"), ("trait.age_group", "age"), ("trait.ageGroup", "age"), ("trait.birthday", "age"),
            ("trait.religion", "religion or belief"), ("trait.ethnicity", "ethnic origin"),
            ("trait.race", "ethnic origin"), ("trait.profile.nationality", "ethnic origin"),
            ("trait.health_score", "health and disability"), ("trait.sexual_orientation", "sexual orientation"),
            ("trait.sexualOrientation", "sexual orientation"), ("trait.marital_status", "family status"),
            ("trait.votes_for_party", "political opinion"),
        ],
    )  # fmt: skip
    def test_what_a_trait_tells_is_judged_by_its_words(self, name: str, tells: str) -> None:
        assert protected_by(name) == tells

    @pytest.mark.parametrize("word", ["language", "agent", "page", "racer", "country", "essex", "village"])
    def test_and_not_by_letters_within_them(self, word: str) -> None:
        assert protected_by(f"trait.{word}") is None

    def test_only_traits_tell_what_people_are(self) -> None:
        assert protected_by("session.age") is None

    def test_a_file_warns_of_each(self) -> None:
        shop = read(
            f"{SHOP}segments: {{a: trait.age > 18 and trait.gender == 'f', b: trait.age < 9, c: trait.x}}".encode()
        )
        assert [warning.partition(":")[0] for warning in shop.warnings] == [
            "segments.a asks for trait.age", "segments.a asks for trait.gender", "segments.b asks for trait.age",
        ]  # fmt: skip


class TestMistakes:
    def test_all_are_told_at_once_each_with_its_place(self) -> None:
        source = (
            "shop:\n"
            "  currency: EUT\n"
            "  time_zone: Europe/Berln\n"
            "  consnt: opt_in\n"
            "  holdout: 5\n"
            "segmnts: {}\n"
            "segments:\n"
            "  vip: order.count > 2 or trai.x == 30 EUR\n"
            "  vip: trait.y\n"
        )
        assert mistakes(source) == [
            "2:13: shop.currency: 'EUT' is no currency, did you mean 'EUR'?",
            "3:14: shop.time_zone: 'Europe/Berln' is no time zone, did you mean 'Europe/Berlin'?",
            "4:3: shop.consnt: unknown key, did you mean 'consent'?",
            "5:12: shop.holdout is a share from 0% to 100%, with at most two digits after the point, such as 5%",
            "6:1: segmnts: unknown key, did you mean 'segments'?",
            "8:8: segments.vip: unknown name 'order.count', did you mean 'orders.count'?",
            "8:27: segments.vip: unknown name 'trai.x', did you mean 'trait.x'?",
            "9:3: segments.vip: this key was told before, in line 8",
        ]

    @pytest.mark.parametrize(
        ("source", "told"),
        [
            ("", "1:1: shop is missing: shop: {currency: EUR, time_zone: Europe/Berlin}"),
            ("shop: {}", "1:1: shop.currency is missing"),
            ("shop:", "1:6: shop holds keys and values, each as key: value"),
            ("- shop", "1:1: a shop file holds keys and values, each as key: value"),
            (SHOP + "unavailable: p-9", "2:14: unavailable is a list of item ids: [p-9, p-12]"),
            (SHOP + "unavailable: [1.5]", "2:15: unavailable[0] is a text: put it in quotes"),
            (
                f"{SHOP}unavailable: [a, {129 * 'x'}]",
                "2:18: unavailable[1]: an item id has at most 128 characters",
            ),
            (
                f"{SHOP}unavailable: [{10_001 * 'a, '}]",
                "2:14: unavailable: at most 10,000 items, not 10,001",
            ),
            (SHOP + "segments: [vip]", "2:11: segments holds keys and values, each as key: value"),
            (
                SHOP + "segments: {Vip: trait.x}",
                "2:12: segments.Vip: a name begins with a letter and has a-z",
            ),
            (SHOP + "segments: {vip: true}", "2:17: segments.vip is a text: put it in quotes"),
            (SHOP + "segments: {vip: 12}", "2:17: segments.vip is a text: put it in quotes"),
            (SHOP + "segments: {vip: }", "2:16: segments.vip says nothing"),
            (SHOP + "segments: {vip: [trait.x]}", "2:17: segments.vip is a text"),
            (SHOP + "segments: {? [a] : trait.x}", "2:14: a key is a word"),
            (SHOP + "caps: []", "2:1: caps: unknown key"),
            ("shop: {currency: 978, time_zone: UTC}", "1:18: shop.currency is a text: put it in quotes"),
            (
                "shop: {currency: EUR, time_zone: UTC, consent: maybe}",
                "1:48: shop.consent: 'maybe' is none of opt_in, opt_out",
            ),
            ("shop: {currency: EUR, time_zone: UTC, holdout: 101%}", "1:48: shop.holdout is a share"),
            ("shop: {currency: EUR, time_zone: UTC, holdout: [5%]}", "1:48: shop.holdout is a share"),
            ("shop: &a {currency: EUR}", "1:7: anchors and aliases (& and *) are not read"),
            ("shop: *a", "1:7: anchors and aliases (& and *) are not read"),
            ("a: " + "[" * 11 + "]" * 11, "1:13: this is nested more than 10 deep"),
            (SHOP + "---\n" + SHOP, "2:1: but found another document"),
            ("shop: {currency: EUR", "1:21: expected ',' or '}', but got '<stream end>'"),
            ("shop: 'EUR", "1:11: found unexpected end of stream"),
            ("a: b: c", "1:5: mapping values are not allowed here"),
            ("shop: \x00", "1:7: the character U+0000 is not read"),
        ],
    )
    def test_a_mistake_is_told_with_its_place(self, source: str, told: str) -> None:
        assert any(line.startswith(told) for line in mistakes(source)), mistakes(source)

    def test_what_is_no_text_is_refused(self) -> None:
        assert mistakes(b"shop: a\nb: \xff") == ["2:4: this is not UTF-8"]

    def test_a_file_is_not_too_large(self) -> None:
        assert mistakes(SHOP + "#" * MOST_BYTES) == ["1:1: a shop file has at most 256 KB"]
        many = "".join(f"  s{number}: trait.x\n" for number in range(MOST_SEGMENTS + 1))
        assert mistakes(f"{SHOP}segments:\n{many}") == ["3:3: segments: at most 200 can be declared, not 201"]

    @pytest.mark.parametrize(
        ("written", "place"),
        [
            ("trait.x == 1 and nope", "3:23"),
            ("'trait.x == 1 and nope'", "3:24"),
            ("'trait.x == ''a'' and nope'", "3:28"),
            ("\"trait.x == 'a' and nope\"", "3:26"),
            ("trait.x == 1\n    and nope", "4:9"),
            ("'trait.x == 1\n    and nope'", "4:9"),
        ],
    )
    def test_a_mistake_in_a_condition_is_where_it_is_written(self, written: str, place: str) -> None:
        assert mistakes(f"{SHOP}segments:\n  v: {written}\n") == [f"{place}: segments.v: unknown name 'nope'"]

    @pytest.mark.parametrize(
        "written", ["{}\n\n    and nope", '"trait.x == \\u0031 and nope"', ">\n    {}\n    and nope"]
    )
    def test_in_the_wilder_ways_of_yaml_it_is_where_the_condition_begins(self, written: str) -> None:
        source = f"{SHOP}segments:\n  v: {written.format('trait.x == 1')}\n"
        assert mistakes(source) == ["3:6: segments.v: unknown name 'nope' (character 18 of the condition)"]

    def test_a_file_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(FileFormatError, match=r"none\.yaml: cannot be read"):
            read_file(tmp_path / "none.yaml")

    @given(st.one_of(st.text(alphabet="shop:{}[]&*!|>'\"%@\n\t -#,?0aé\x00", max_size=60), st.text(max_size=40)))
    def test_nothing_is_raised_but_what_says_so(self, source: str) -> None:
        for text in (source, SHOP + "segments:\n  a: " + source):
            try:
                shop = read(text.encode("utf-8", "surrogatepass"))
            except ShopFileError:
                continue
            assert Declared.from_config(shop.config).segments(lambda name: None) in ([], ["a"])


def test_time_zones_come_with_the_program() -> None:
    assert {"UTC", "Europe/Berlin", "America/New_York"} <= time_zones()


class TestStored:
    CONTENT = read(SHOP.encode()).encoded

    def test_what_has_the_hash_of_its_name_is_given(self) -> None:
        assert checked(self.CONTENT, sha256(self.CONTENT).hexdigest(), "journey.config")["v"] == 1

    def test_what_is_not_there_or_was_changed_is_refused_by_name(self) -> None:
        name = sha256(self.CONTENT).hexdigest()
        with pytest.raises(LostConfigError, match=f"{name} is not in the topic journey.config"):
            checked(None, name, "journey.config")
        with pytest.raises(LostConfigError, match=f"{name} in the topic journey.config was changed"):
            checked(self.CONTENT + b" ", name, "journey.config")


class TestControl:
    SHA256 = "ab" * 32

    def control(self, **message: Any) -> Parsed:
        (one,) = parse_control([Raw(orjson.dumps({"v": 1, **message}), "journey.control", 17, timestamp=NOON)], 3)
        return one

    def test_a_configuration_goes_to_every_partition_and_moves_no_time(self) -> None:
        one = self.control(k="config", sha256=self.SHA256, engine="0.1.0", tzdata="2026b")
        entry = {
            "k": "config", "at": 0, "src": ["journey.control", 0, 17], "sha256": self.SHA256, "engine": "0.1.0",
            "tzdata": "2026b",
        }  # fmt: skip
        assert loaded(one) == ((0, entry), (1, entry), (2, entry))
        validator("journey.page.v1").validate([entry])

    def test_versions_may_be_left_out(self) -> None:
        assert "engine" not in loaded(self.control(k="config", sha256=self.SHA256))[0][1]

    @pytest.mark.parametrize(
        ("message", "field"),
        [
            ({}, "sha256"), ({"sha256": "ab"}, "sha256"), ({"sha256": "AB" * 32}, "sha256"),
            ({"sha256": "xy" * 32}, "sha256"), ({"sha256": ["ab"]}, "sha256"),
            ({"sha256": SHA256, "engine": 1}, "engine"), ({"sha256": SHA256, "tzdata": "x" * 101}, "tzdata"),
        ],
    )  # fmt: skip
    def test_what_names_no_configuration_becomes_a_letter(self, message: Json, field: str) -> None:
        one = self.control(k="config", **message)
        assert one.entries == ()
        assert one.dead_letter is not None
        letter = orjson.loads(one.dead_letter[1])
        assert (letter["reason"], letter["field"]) == ("bad_field", field)


class TestCommands:
    def run(self, *arguments: str) -> Any:
        app = typer.Typer()
        cli_config.register(app)
        return CliRunner().invoke(app, ["config", *arguments])

    def test_check_says_that_a_file_is_well_and_warns(self) -> None:
        done = self.run("check", str(EXAMPLE))
        assert done.exit_code == 0
        warning, verdict = done.output.splitlines()
        assert warning.startswith("warning: segments.born_in_the_nineties asks for trait.birth_year")
        assert verdict == f"{read_file(EXAMPLE).sha256}, 16 segments, 2 items unavailable, is well"

    def test_for_programs_it_is_json(self) -> None:
        told = orjson.loads(self.run("check", str(EXAMPLE), "--json").output)
        shop = read_file(EXAMPLE)
        assert told == {"sha256": shop.sha256, "warnings": list(shop.warnings), "config": shop.config}

    def test_a_file_with_mistakes_is_not_used(self, tmp_path: Path) -> None:
        file = tmp_path / "my.yaml"
        file.write_text(SHOP + "segments: {vip: nope}\n")
        for command in ("check", "use"):  # before a broker is asked for
            done = self.run(command, str(file))
            assert isinstance(done.exception, ShopFileError)
            assert str(done.exception) == "my.yaml:2:17: segments.vip: unknown name 'nope'"
