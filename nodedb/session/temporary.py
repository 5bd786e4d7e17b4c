"""What COMMIT does to temporary tables: ON COMMIT DELETE ROWS empties, ON COMMIT DROP drops them.

Runs inside the transaction that commits, so the tables change with it. Source: PostgreSQL docs,
"CREATE TABLE".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nodedb.kv.keys import storage_prefix
from sql.ast.ddl import Drop
from sql.ast.query import QualifiedName
from sql.catalog.descriptor import Table

if TYPE_CHECKING:
    from nodedb.session.session import Session


async def before_commit(session: Session) -> None:
    """Carry out the ON COMMIT actions of the session's temporary tables; commit follows."""
    block = session.block
    transaction = block.transaction
    if transaction is None or block.state == "failed":
        return
    catalog = session.catalog()
    tables = [
        table
        for table in catalog.snapshot.all(Table)
        if table.on_commit and table.schema_id == catalog.temp_schema_id
    ]
    for table in tables:
        if table.on_commit == "delete rows":
            prefix = storage_prefix(table.storage_id)
            if not any(key.startswith(prefix) for key in transaction.writes):
                continue
            overlay = block.ensure_overlay()
            overlay.put(
                msgspec.structs.replace(table, storage_id=overlay.allocate_id(), statistics=None)
            )
            transaction.cleared.append(prefix)
    dropped = tuple(
        QualifiedName(table.name, "pg_temp") for table in tables if table.on_commit == "drop"
    )
    if dropped:
        await session.run_ddl(
            Drop("table", dropped, if_exists=False, behavior="cascade"), in_multi_statement=True
        )
