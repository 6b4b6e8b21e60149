"""The sandbox as a WSGI app: the operator's API on every path but /_sandbox/, which is for those who look behind it."""

from __future__ import annotations

from contextlib import contextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from cdrsync.sandbox import spoil
from cdrsync.sandbox.control import control
from cdrsync.sandbox.operator import Operator
from cdrsync.sandbox.wire import ON_A_SOCKET, ConnectionCutError, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdrsync.sandbox.world import World


def app(world: World) -> Flask:
    """The WSGI app over a world. Several apps may share one."""
    sandbox = Flask("cdrsync.sandbox")
    sandbox.config["PROPAGATE_EXCEPTIONS"] = True  # a bug of the sandbox must not pass for the operator's HTTP 500
    operator = Operator(world)

    def answer(path: str = "") -> Response:  # noqa: ARG001 - the help pages show the bare root, the clients /api/
        reply = operator.answer(request.get_data(), address=request.remote_addr or "")
        if world.settings.latency > 0:
            world.sleep(world.settings.latency)
        return _response(reply, world)

    sandbox.add_url_rule("/", "root", answer, methods=["POST"])
    sandbox.add_url_rule("/<path:path>", "api", answer, methods=["POST"])
    sandbox.register_blueprint(control(world), url_prefix="/_sandbox")
    return sandbox


def _response(reply: spoil.Reply, world: World) -> Response:
    headers = {**reply.headers, "Date": formatdate(world.clock(), usegmt=True)}
    gzip_accepted = "gzip" in request.headers.get("Accept-Encoding", "")
    body: bytes | Iterator[bytes] = reply.body
    if reply.manner == "huge":
        packed = gzip_accepted
        body = spoil.huge_gzip(world.settings.huge_bytes) if packed else spoil.huge(world.settings.huge_bytes)
    elif reply.manner == "whole":
        packed = gzip_accepted and world.settings.gzip
        body = spoil.gzip(reply.body) if packed else reply.body
    else:
        packed = False
        headers["Content-Length"] = str(len(reply.body))
        body = _drip(reply.body, world) if reply.manner == "drip" else _cut(reply)
    if packed:
        headers["Content-Encoding"] = "gzip"
    return Response(body, reply.status, headers)


def _cut(reply: spoil.Reply) -> Iterator[bytes]:
    """A body that breaks off. In-process there is no socket to break: what httpx would raise is raised instead."""
    on_a_socket = ON_A_SOCKET in request.environ
    reset = reply.manner == "reset"
    return _broken(b"" if reset else reply.body[: len(reply.body) // 2], reset=reset, on_a_socket=on_a_socket)


def _broken(half: bytes, *, reset: bool, on_a_socket: bool) -> Iterator[bytes]:
    if half:
        yield half
    if on_a_socket:
        raise ConnectionCutError(reset=reset)
    import httpx

    if reset:
        raise httpx.ReadError("[Errno 104] Connection reset by peer")
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def _drip(body: bytes, world: World) -> Iterator[bytes]:
    size = world.settings.drip_bytes
    for start in range(0, len(body), size):
        world.sleep(world.settings.drip_pause)
        yield body[start : start + size]


@contextmanager
def running(world: World, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """A real server on its own threads; gives the API's URL. Raises OSError where the address can't be had."""
    with Server(app(world), host, port) as server:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.port}/api/"
