"""What every command promises without a broker: help with an example, clear refusals, exit statuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from streams import cli, inspect
from streams.errors import ShellError
from streams.replay import Verdict

NOBODY = "127.0.0.1:9"  # the port of "discard": nothing answers


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command.help or ""


ALL = list(commands(typer.main.get_group(cli.app)))


def journey(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JOURNEY_")}
    return subprocess.run(
        [sys.executable, "-m", "streams.cli", *arguments],
        env={**clean, "JOURNEY_KAFKA_URL": NOBODY, "JOURNEY_REDIS_URL": f"redis://{NOBODY}/0", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_commands_are_those_of_the_readme() -> None:
    assert {" ".join(path) for path, _ in ALL} == {
        "worker", "demo", "load", "tail", "customer", "replay", "doctor", "status", "topics create", "topics check",
        "dead-letters list", "dead-letters resend", "cache rebuild", "upgrade", "rebuild", "go-live",
        "ingest accept-hole", "models history", "models rules", "promote", "rollback", "freeze", "unfreeze",
        "audit segments", "audit rules", "audit churn", "config use", "config show", "config check",
    }  # fmt: skip


@pytest.mark.parametrize(("path", "text"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_command_has_help_with_an_example(path: tuple[str, ...], text: str) -> None:
    assert f"Example: journey {path[0]}" in text


def test_no_broker_is_said_in_a_sentence_with_what_to_do() -> None:
    done = journey("topics", "check")
    assert done.returncode == cli.FAILED
    assert done.stderr.startswith(f"journey: no Kafka broker answers at {NOBODY}")
    assert "Traceback" not in done.stderr


def test_a_mistyped_setting_is_refused_with_the_nearest_one() -> None:
    done = journey("topics", "check", JOURNEY_KAFAK_URL="x")
    assert done.returncode == cli.FAILED
    assert "did you mean JOURNEY_KAFKA_URL?" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("worker", "--roles", "engien"), "unknown role 'engien'"),
        (("load", "no-such-file.csv"), "no-such-file.csv: cannot be read"),
        (("load", "no-such-file.csv", "--clock", "sun"), "--clock sun"),
        (("load", "no-such-file.csv", "--shift", "ten days"), "--shift ten days"),
        (("replay", "--until", "yesterday"), "--until yesterday"),
        (("replay", "--verify", "--until", "2026-01-01T00:00:00Z"), "--verify compares the whole journal"),
        (("dead-letters", "resend", "--file", "no-such-file"), "no-such-file"),
        (("cache", "rebuild"), "no Kafka broker answers"),
        (("customer", "42"), "Redis does not answer"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_what_cannot_be_done_exits_with_2_and_one_message(arguments: tuple[str, ...], said: str) -> None:
    done = journey(*arguments)
    assert done.returncode == cli.FAILED
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_tells_the_operator_what_to_do() -> None:
    class LostError(ShellError):
        """It is lost.

        Operator: look under the sofa,
        then behind it.
        """

    assert cli.what_to_do(LostError("x")) == "look under the sofa, then behind it."


def test_a_difference_is_told_by_its_members() -> None:
    parts = inspect.differing_parts({"at": 3, "key": "u:1"}, {"at": 4, "key": "u:1"})
    assert parts == ["at: live 3, replayed 4"]
    assert inspect.differing_parts(None, {"at": 4}) == ["it is only in the replay"]


def verdict(**differs: Any) -> Verdict:
    told: dict[str, Any] = {
        "identical": True, "digests": {0: ("aa", "aa")}, "customers": 3, "pages": 4, "entries": 5, "triggers": 6,
        "triggers_missing": [], "triggers_surplus": [], "trigger_repeats": 0, "differences": [], "duplicates": 0,
        "events": 5, "samples": 46_067, "labels": 9, "segments": 6, "adoptions": 2, "samples_different": [],
        "adopted": {"churn": ["churn/42"], "recs": ["recs/7", "recs/8"]}, "models": 938,
        "models_not_compared": 0, "models_different": [],
    }  # fmt: skip
    return Verdict(**(told | differs))


def test_verify_says_what_was_compared(capsys: pytest.CaptureFixture[str]) -> None:
    cli._show_verdict(verdict(), 1.5)
    told = capsys.readouterr().out
    assert "46,067 samples, 938 versions of models learned again from them" in told
    assert "in force in recs, by partition: recs/7, recs/8" in told
    assert "churn/42" not in told, "partitions agree about it"
    assert "identical: the state is the fold of its journal, the models of their samples" in told


def test_verify_says_what_it_could_not_compare(capsys: pytest.CaptureFixture[str]) -> None:
    cli._show_verdict(verdict(models_not_compared=1_205), 1.5)
    told = capsys.readouterr().out
    assert "1,205 versions are not compared: another version of this program began to learn their families" in told
    assert "identical: the state is the fold of its journal, the compared models of their samples" in told
    cli._show_verdict(verdict(models=0, models_not_compared=9), 1.5)
    assert "identical: the state is the fold of its journal\n" in capsys.readouterr().out


def test_verify_names_what_differs_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    samples = ["churn of journal partition 3: 7 sent, 8 folded"]
    models = [f"churn/{number}" for number in range(1, 9)]
    cli._show_verdict(verdict(identical=False, samples_different=samples, models_different=models), 1.5)
    told = capsys.readouterr().out
    assert "different: the samples are not those of the fold; some models are not what their samples give" in told
    assert "samples that differ: churn of journal partition 3: 7 sent, 8 folded" in told
    assert "models that differ: churn/1; churn/2; churn/3; churn/4; churn/5 and 3 more" in told
    cli._show_verdict(verdict(identical=False, triggers_missing=["tr_1"]), 1.5)
    told = capsys.readouterr().out
    assert "different: the triggers are not those of the fold" in told
    assert "triggers not sent: 1, first tr_1" in told
