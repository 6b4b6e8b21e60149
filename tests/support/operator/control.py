"""Behind the scenes, over HTTP: what a campaign in another process compares with, and what it does to the world."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest, NotFound

from cdrsync.sandbox.calls import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.operator.world import World


T = TypeVar("T")


def control(world: World) -> Blueprint:
    """The blueprint of /_sandbox/. Bodies of POST are JSON objects; an error is JSON too, with HTTP 400 or 404."""
    blueprint = Blueprint("control", __name__)
    verbs = _Verbs(world)

    @blueprint.get("/requests")
    def requests() -> Response:
        with world.lock:
            return jsonify([seen._asdict() for seen in world.requests])

    @blueprint.get("/totals")
    def totals() -> Response:
        period, number = request.args.get("period", "day"), request.args.get("number")
        sums = _checked(lambda: world.totals(period, number=number, username=_login(world)))
        return jsonify({**sums._asdict(), "charge": str(sums.charge), "calls": sums.calls})

    @blueprint.post("/<verb>")
    def do(verb: str) -> Response:
        actions: dict[str, Callable[..., Any]] = {
            "calls": verbs.calls,
            "change": verbs.change,
            "vanish": verbs.vanish,
            "restart_sequence": verbs.restart_sequence,
            "settings": verbs.settings,
            "faults": verbs.faults,
            "expire_sessions": verbs.expire_sessions,
        }
        action = actions.get(verb)
        body = request.get_json(silent=True, force=True) if request.get_data() else {}
        if action is None:
            raise NotFound(f"no verb {verb}")
        if not isinstance(body, dict):
            raise BadRequest("a JSON object is wanted")
        return jsonify(_checked(lambda: action(**body)))

    @blueprint.errorhandler(BadRequest)
    @blueprint.errorhandler(NotFound)
    def refuse(error: BadRequest | NotFound) -> tuple[Response, int]:
        return jsonify({"error": error.description}), error.code

    return blueprint


def _login(world: World) -> str | None:
    login = request.args.get("login")
    if login is not None and login not in [known.username for known in world.logins]:
        raise NotFound(f"no login {login}")
    return login


def _checked(action: Callable[[], T]) -> T:
    try:
        return action()
    except KeyError as error:
        raise NotFound(f"no {error}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise BadRequest(str(error)) from error


class _Verbs:
    """The world's verbs with JSON in and out."""

    def __init__(self, world: World) -> None:
        self._world = world

    def calls(
        self, count: int = 1, delay: float = 0, login: str | None = None, fields: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        made = [self._world.add_late(delay, username=login, **_fields(fields)) for _ in range(count)]
        return [call.as_json() for call in made]

    def change(self, uid: int, fields: dict[str, Any], delay: float = 0) -> dict[str, Any]:
        self._world.change(uid, delay=delay, **_fields(fields))
        return {"uid": uid}

    def vanish(self, uid: int) -> dict[str, Any]:
        return self._world.vanish(uid).as_json()

    def restart_sequence(self, at: int) -> dict[str, Any]:
        self._world.restart_sequence(at)
        return {"at": at}

    def settings(self, **changes: Any) -> dict[str, Any]:
        self._world.configure(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
        )
        return changes

    def faults(self, script: list[str | None] | None = None, rates: dict[str, float] | None = None) -> dict[str, Any]:
        with self._world.lock:
            self._world.faults.script(*script or ())
            if rates is not None:
                self._world.faults.rates(rates)
            return {"pending": self._world.faults.pending}

    def expire_sessions(self) -> dict[str, Any]:
        self._world.expire_sessions()
        return {}


def _fields(fields: dict[str, Any] | None) -> dict[str, Any]:
    """JSON has no Decimal and no tuple."""
    given = dict(fields or {})
    unknown = sorted(given.keys() - set(Call._fields))
    if unknown:
        raise ValueError(f"{unknown[0]} is no field of a call")
    if "user_cost" in given:
        given["user_cost"] = Decimal(str(given["user_cost"]))
    if "extra" in given:
        given["extra"] = tuple((name, text) for name, text in given["extra"])
    return given
