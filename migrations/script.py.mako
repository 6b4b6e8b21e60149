"""${message}.

House rules: a released migration never changes. Of cdrsync it imports the types of columns, whose meaning stays as well,
the views (they are no history, the newest migration makes them all) and `migrate.add_column`. Revision ids are the file's name,
NNNN_topic. It may be cut off anywhere and run again (MySQL commits each statement by itself). Columns are added at the
table's end, as NULL or with a default; long work on `cdr` goes in steps.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cdrsync.store.admin import views
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
    views.make(op, revision)


def downgrade() -> None:
    views.drop(op)
    ${downgrades if downgrades else "pass"}
