"""What an analyst asks: README's questions and Grafana's panels, as each database takes them."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

README = Path(__file__).parents[2] / "README.md"
DAYS_AGO = {
    "sqlite": r"DATE('now', '-\1 days')",
    "postgresql": r"CURRENT_DATE - \1",
    "mysql": r"CURRENT_DATE - INTERVAL \1 DAY",
    "mariadb": r"CURRENT_DATE - INTERVAL \1 DAY",
}
"""What README says of `CURRENT_DATE - 30`."""


def questions(dialect: str) -> dict[int, str]:
    """README's questions by number."""
    found = re.findall(r"\*\*(\d+)\. [^\n]*\*\*\n\n```sql\n(.*?);\n```", README.read_text(encoding="utf-8"), re.DOTALL)
    return {int(number): re.sub(r"CURRENT_DATE - (\d+)", DAYS_AGO[dialect], query) for number, query in found}


def panel_query(query: str, start: datetime, end: datetime, accounts: str = "'default'") -> str:
    """A panel's query as Grafana sends it: its macros and variables replaced."""
    query = re.sub(r"\$__timeFilter\(([^)]+)\)", rf"\1 BETWEEN '{start.isoformat()}' AND '{end.isoformat()}'", query)
    for name, moment in (("From", start), ("To", end)):
        query = query.replace(f"$__time{name}()", f"'{moment.isoformat()}'")
    hours = max(1, (end - start) // timedelta(hours=1000))  # as for a panel a thousand points wide
    query = query.replace("$__interval_ms", str(hours * 3_600_000))
    return query.replace("${account:sqlstring}", accounts)
