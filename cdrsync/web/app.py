"""The WSGI app: which path answers what, and the headers that every answer carries."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from cdrsync.web.access import Access, Outcome
from cdrsync.web.health import cut_off, not_ready, ready
from cdrsync.web.page import Pages
from cdrsync.web.state import Recent

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from cdrsync.web.doorbell import Doorbell
    from cdrsync.web.state import StatusSource

LIVE = "/livez"
MAX_BODY_BYTES = 4096  # of a doorbell's POST; its content is not read

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
ACCOUNT = "/account/"
PROTECTED = ("/", "/metrics")  # by http_password, where one is set; and each account's page
NOTHING_ALLOWED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

STATUS_OF = {Outcome.ACCEPTED: 202, Outcome.REFUSED: 401, Outcome.UNKNOWN: 404, Outcome.LIMITED: 429}


def create_app(
    source: StatusSource,
    *,
    registry: CollectorRegistry | None = None,
    doorbell: Doorbell | None = None,
    access: Access | None = None,
) -> Flask:
    """The app. Without a `registry` /metrics, without a `doorbell` /doorbell answers 404."""
    access = access or Access()
    app = Flask("cdrsync.web", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    recent = Recent(source)
    pages = Pages(app, source, recent)

    def live() -> Response:
        now = source.now()
        if now.stuck:
            return _line(f"stuck: {now.stuck}", 503)
        # To begin it anew would not help.
        return _line("alive" if now.cut_off is None else cut_off(now.cut_off))

    def readiness() -> Response:
        now = source.now()
        reasons = not_ready(now, recent.problem())
        return _line(f"not ready: {'; '.join(reasons)}", 503) if reasons else _line(ready(now))

    def status_page(account: str | None = None) -> Response:
        rendered = pages.render(refresh=request.args.get("refresh") == "60", only=account)
        if rendered is None:
            return _line(f"no account {account!r}", 404)
        page, style_hash = rendered
        answer = Response(page, content_type="text/html; charset=utf-8")
        answer.headers["Content-Security-Policy"] = f"{NOTHING_ALLOWED}; style-src '{style_hash}'; img-src data:"
        return answer

    _get(app, "/", status_page)
    _get(app, f"{ACCOUNT}<path:account>", status_page)
    _get(app, LIVE, live)
    _get(app, "/readyz", readiness)
    if registry is not None:
        _get(app, "/metrics", lambda: _metrics(registry))
    if doorbell is not None:
        for path in ("/doorbell", "/doorbell/<account>"):
            view = functools.partial(_ring, doorbell)
            app.add_url_rule(path, path, view, methods=["POST"], provide_automatic_options=False)
    app.before_request(lambda: _refused(access))
    app.after_request(_protect)
    app.register_error_handler(HTTPException, _failure)
    return app


def _get(app: Flask, path: str, view: object) -> None:
    """A page that is only ever read: GET and HEAD, nothing else."""
    app.add_url_rule(path, path, view, methods=["GET"], provide_automatic_options=False)  # type: ignore[arg-type]


def _metrics(registry: CollectorRegistry) -> Response:
    from prometheus_client.exposition import choose_encoder

    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry), content_type=content_type)


def _refused(access: Access) -> Response | None:
    """An answer to a request that may not be answered."""
    host = request.environ.get("HTTP_HOST")
    if not access.answers_to(host):
        name = access.name_in(host or "")
        return _line(f"this server is not called {name}: see http_hosts in the configuration", 421)
    protected = request.path in PROTECTED or request.path.startswith(ACCOUNT)
    if not protected or access.password is None:
        return None
    outcome = access.check(request.headers.get("Authorization", ""))
    if outcome is Outcome.ACCEPTED:
        return None
    answer = _line("a password is needed" if outcome is Outcome.REFUSED else outcome, STATUS_OF[outcome])
    answer.headers["WWW-Authenticate" if outcome is Outcome.REFUSED else "Retry-After"] = (
        'Basic realm="cdrsync", charset="UTF-8"' if outcome is Outcome.REFUSED else "1"
    )
    return answer


def _ring(doorbell: Doorbell, account: str | None = None) -> Response:
    if (request.content_length or 0) > MAX_BODY_BYTES:
        return _line("the body is too large", 413)
    outcome = doorbell.press(request.headers.get("Authorization", ""), account)
    answer = _line(outcome, STATUS_OF[outcome])
    if outcome is Outcome.REFUSED:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="doorbell"'
    if outcome is Outcome.LIMITED:
        answer.headers["Retry-After"] = "1"
    return answer


def _line(text: str, status: int = 200) -> Response:
    return Response(f"{text}\n", status, content_type="text/plain; charset=utf-8")


def _failure(error: HTTPException) -> Response:
    answer = _line(f"{error.code} {error.name}", error.code or 500)
    allowed = dict(error.get_headers()).get("Allow")
    if allowed:
        answer.headers["Allow"] = allowed
    return answer


def _protect(answer: Response) -> Response:
    answer.headers.update(HEADERS)
    answer.headers.setdefault("Content-Security-Policy", NOTHING_ALLOWED)
    return answer
