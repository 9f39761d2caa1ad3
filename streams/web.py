"""What a worker tells over HTTP: whether it lives, whether it is ready, its numbers."""

from __future__ import annotations

import errno
import logging
import socket
from typing import Any, Final

import orjson
from aiohttp import web

from streams.errors import SettingsError
from streams.metrics import exposition
from streams.vitals import Vitals

log = logging.getLogger("journey.web")

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
EVERYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104  # compared with, not bound to


def listen(address: str) -> socket.socket | None:
    """Return a socket that listens at ``host:port``, or at a free port when that one is taken; None for ``""``.

    Raises
    ------
    SettingsError
        There is no such address here.
    """
    if not address:
        return None
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        try:
            return socket.create_server((host, int(port)), family=family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            free = socket.create_server((host, 0), family=family)
            log.warning("port %s of JOURNEY_HTTP is taken: this worker answers at %s", port, told_address(free))
            return free
    except (OSError, OverflowError) as error:
        msg = f"JOURNEY_HTTP={address}: cannot listen there ({error}); choose another address, or none"
        raise SettingsError(msg) from None


def told_address(listening: socket.socket) -> str:
    """Return the address by which others reach a socket."""
    host, port = listening.getsockname()[:2]
    if host in EVERYWHERE:
        host = socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def serve(listening: socket.socket, vitals: Vitals) -> web.AppRunner:
    """Begin to answer."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/health", _health), web.get("/ready", _Answers(vitals).ready),
            web.get("/metrics", _Answers(vitals).metrics), web.get("/status", _Answers(vitals).status),
        ]
    )  # fmt: skip
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    return runner


async def _health(_: web.Request) -> web.Response:
    return web.Response(text="alive\n")


class _Answers:
    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals

    async def ready(self, _: web.Request) -> web.Response:
        if self._vitals.is_ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not ready: partitions are being assigned or recovered\n")

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=exposition(self._vitals.told), headers={"content-type": TEXT})

    async def status(self, _: web.Request) -> web.Response:
        told: Any = orjson.dumps(self._vitals.told())
        return web.Response(body=told, content_type="application/json")
