"""`cdrsync erase` does what was asked, once it is sure."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from cdrsync.cli import main
from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.privacy.eraser import Erased, Eraser
from tests.support.examples import FIRST, page
from tests.support.eyes import seen
from tests.support.stores import OwnStore, opened

if TYPE_CHECKING:
    from pathlib import Path

CALLERS = "SELECT caller_number FROM calls"


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    found = f"sqlite:///{tmp_path / 'calls.db'}"
    engine = open_engine(found)
    migrate.upgrade(engine)
    engine.dispose()
    store = OwnStore(found, "default")
    store.open()
    store.save(page(FIRST))
    store.close()
    monkeypatch.setenv("CDRSYNC_DATABASE_URL", found)
    monkeypatch.setenv("CDRSYNC_PSEUDONYM_KEY", "a long random text")
    return found


def callers(url: str) -> list[Any]:
    engine = open_engine(url)
    rows = [row["caller_number"] for row in seen(engine, CALLERS)]
    engine.dispose()
    return rows


def test_a_number(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Erased, and said how often; the number itself is in no output."""
    assert main(["erase", "--number", "07921255043", "--yes", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["accounts"] == [
        {"name": "default", "calls": 1, "rejects": 0, "found": {"cdr.anumber": 1, "number.number": 1}}
    ]
    assert callers(url) == ["~erased"]
    assert "7921255043" not in out


def test_what_is_too_old(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By the configured months and policy."""
    monkeypatch.setenv("CDRSYNC_RETENTION_MONTHS", "12")
    monkeypatch.setenv("CDRSYNC_RETENTION_POLICY", "delete")
    assert main(["erase", "--expired", "--yes"]) == 0
    assert capsys.readouterr().out.startswith("default: 1 calls and 0 records of the quarantine treated")
    assert callers(url) == []


def test_nothing_without_a_clear_wish(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither both nor none, not without retention, and not unasked."""
    assert main(["erase", "--yes"]) == 2
    assert main(["erase", "--yes", "--expired", "--number", "1"]) == 2
    assert main(["erase", "--yes", "--expired"]) == 78
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["erase", "--number", "07921255043"]) == 130  # nobody there to say yes
    assert callers(url) == ["7921255043"]


def test_every_account_of_the_database(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also one that left the configuration: the person is meant, not the account. --account limits it."""
    store = OwnStore(url, "sold")
    store.open()
    store.save(page(FIRST._replace(uid=5, anumber="+447921255043")))
    store.close()
    assert main(["erase", "--number", "07921255043", "--yes", "--account", "sold", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["accounts"]] == ["sold"]
    assert sorted(callers(url)) == ["7921255043", "~erased"]
    assert main(["erase", "--number", "07921255043", "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["accounts"]
    assert [(one["name"], one["calls"]) for one in told] == [("default", 1), ("sold", 0)]
    assert callers(url) == ["~erased", "~erased"]


@pytest.mark.parametrize("what", ["added", "renamed", "forgotten"])
def test_an_account_that_changes_meanwhile(url: str, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """One that is added, renamed or forgotten while others are treated: nothing of the person is left anywhere."""
    with opened(url, "sold") as store:
        store.save(page(FIRST._replace(uid=5)))
    erase_number = Eraser.erase_number

    def erase(eraser: Eraser, wanted: str) -> Erased:
        done = erase_number(eraser, wanted)
        monkeypatch.setattr(Eraser, "erase_number", erase_number)  # of the first account
        with opened(url, "new" if what == "added" else "sold", pseudonym_key="a long random text") as other:
            if what == "added":
                other.save(page(FIRST._replace(uid=6)))
            elif what == "renamed":
                other.rename("bought")
            else:
                other.forget()
        return done

    monkeypatch.setattr(Eraser, "erase_number", erase)
    assert main(["erase", "--number", "07921255043", "--yes"]) == 0
    assert callers(url) == ["~erased"] * {"added": 3, "renamed": 2, "forgotten": 1}[what]
