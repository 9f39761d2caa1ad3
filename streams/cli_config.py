"""Commands on the shop's configuration: config use, config show, config check."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
import tzdata
from rich.console import Console
from rich.markup import escape

from streams import topics
from streams.appends import Log
from streams.errors import TopicConflictError
from streams.logs import read_all
from streams.publish import Publisher
from streams.records import parse_control
from streams.settings import Settings, load
from streams.shop_file import ShopFile, load_config, read_file

CONFIG: Final = "config"

File = Annotated[Path, typer.Argument(help="The shop's file, see examples/shop.yaml.")]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]

config_app = typer.Typer(no_args_is_help=True, help="What the shop declares: currency, time zone, segments.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(config_app, name=CONFIG)


@config_app.command()
def check(file: File, as_json: Json = False) -> None:
    """Read a file and say all that is wrong with it; needs no broker, changes nothing.

    Example: journey config check shop.yaml
    """
    _tell(read_file(file), "is well", as_json=as_json)


@config_app.command()
def use(file: File, as_json: Json = False) -> None:
    """Make a file the configuration that counts, in every journal partition from one and the same message on.

    Example: journey config use shop.yaml
    """
    shop = read_file(file)
    asyncio.run(put_in_force(load(), shop))
    _tell(shop, "is stored, and counts as soon as a worker has read so", as_json=as_json)


@config_app.command()
def show(as_json: Json = False) -> None:
    """Show the configuration that was put in force last, or none.

    Example: journey config show --json
    """
    settings = load()
    told = asyncio.run(in_force(settings))
    config = None if told is None else asyncio.run(load_config(settings, told["sha256"]))
    console = Console(highlight=False)
    if as_json:
        shown = None if told is None else {name: told[name] for name in ("sha256", "engine", "tzdata") if name in told}
        answer = None if shown is None else shown | {"config": config}
        console.file.write(orjson.dumps(answer).decode() + "\n")
    elif told is None or config is None:
        console.print("none")
    else:
        by = ", ".join(f"{name} {told[name]}" for name in ("engine", "tzdata") if name in told)
        console.print(f"{told['sha256']}{f' ({escape(by)})' if by else ''}", soft_wrap=True)
        for name, value in sorted(config.get("shop", {}).items()):
            console.print(f"shop.{name}: {escape(str(value))}", soft_wrap=True)
        for name, condition in sorted(config.get("segments", {}).items()):
            console.print(f"segments.{name}: {escape(condition)}", soft_wrap=True)
        if items := config.get("unavailable"):
            console.print(f"unavailable: {escape(', '.join(items))}", soft_wrap=True)


def _tell(shop: ShopFile, what: str, *, as_json: bool) -> None:
    console = Console(highlight=False)
    if as_json:
        told = {"sha256": shop.sha256, "warnings": shop.warnings, "config": shop.config}
        console.file.write(orjson.dumps(told).decode() + "\n")
        return
    for warning in shop.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    count = len(shop.config["segments"])
    gone = len(shop.config.get("unavailable", ()))
    without = f", {gone} item{'' if gone == 1 else 's'} unavailable" if gone else ""
    console.print(f"{shop.sha256}, {count} segment{'' if count == 1 else 's'}{without}, {what}", soft_wrap=True)


async def put_in_force(settings: Settings, shop: ShopFile) -> None:
    """Store a configuration, and only when that is acknowledged send the message that names it."""
    async with Publisher(settings) as publisher:
        writer = await Log(settings.kafka_url, settings.batch_bytes).start()
        try:
            await writer.append(settings.topic(topics.CONFIG), 0, [(shop.sha256.encode(), shop.encoded)])
        finally:
            await writer.stop()
        await publisher.control(
            k=CONFIG, sha256=shop.sha256, engine=version("journey-engine"), tzdata=tzdata.IANA_VERSION
        )


async def in_force(settings: Settings) -> dict[str, Any] | None:
    """Return the last entry by which the control log put a configuration in force, None where there is none."""
    found: dict[str, Any] | None = None
    try:
        async for record in read_all(settings, settings.topic(topics.CONTROL)):
            # as ingest judges it: what it refuses was never in force
            for _, entry in parse_control([record], 1)[0].entries:
                told: dict[str, Any] = orjson.loads(entry)
                if told["k"] == CONFIG:
                    found = told
    except TopicConflictError:
        return None
    return found
