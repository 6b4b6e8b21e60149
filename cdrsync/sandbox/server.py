"""The sandbox as a WSGI app: the operator's API on every path but /_sandbox/, which is for those who look behind it."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING

from flask import Flask, Response, jsonify, request

from cdrsync.sandbox.operator import HttpAnswer, Operator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from wsgiref.types import WSGIApplication

    from cdrsync.sandbox.world import World

XML = "text/xml; charset=utf-8"
_JSON = json.JSONEncoder(ensure_ascii=False)


def response(answer: HttpAnswer, world: World) -> Response:
    return Response(answer.body, answer.status, {"Content-Type": XML, "Date": formatdate(world.clock(), usegmt=True)})


def app(
    world: World,
    operator: Operator | None = None,
    respond: Callable[[HttpAnswer, World], Response] = response,
) -> Flask:
    """The WSGI app over a world. Several apps may share one."""
    sandbox = Flask("cdrsync.sandbox")
    sandbox.config["PROPAGATE_EXCEPTIONS"] = True  # a bug of the sandbox must not pass for the operator's HTTP 500
    answering = operator or Operator(world)

    def answer(path: str = "") -> Response:  # noqa: ARG001 - the help pages show the bare root, the clients /api/
        return respond(answering.answer(request.get_data(), address=request.remote_addr or ""), world)

    def records() -> Response:
        calls = world.records(request.args.get("login"), visible=request.args.get("visible", "now") == "now")
        lines = (_JSON.encode(call.as_json()) + "\n" for call in calls)
        return Response(lines, content_type="application/x-ndjson; charset=utf-8")

    sandbox.add_url_rule("/", "root", answer, methods=["POST"])
    sandbox.add_url_rule("/<path:path>", "api", answer, methods=["POST"])
    sandbox.add_url_rule("/_sandbox/records", view_func=records)
    sandbox.add_url_rule("/_sandbox/counters", "counters", lambda: jsonify(world.counters()))
    return sandbox


@contextmanager
def running(app: WSGIApplication, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """The app on an address while the context lasts, port 0 for any free one; gives the API's URL. Raises OSError."""
    from waitress import wasyncore
    from waitress.server import create_server

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        sockets: dict[int, object] = {}
        server = create_server(app, map=sockets, sockets=[listener], threads=8, ident=None)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                wasyncore.loop(timeout=10, map=sockets, count=1)
            server.task_dispatcher.shutdown()
            wasyncore.close_all(sockets, ignore_all=True)

        thread = threading.Thread(target=serve, name="sandbox", daemon=True)
        thread.start()
        try:
            yield f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/api/"
        finally:
            ended.set()
            server.pull_trigger()
            thread.join()
