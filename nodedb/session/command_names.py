"""What PostgreSQL calls a statement in ``cannot execute ... in a read-only transaction``.

It is the command tag, known beforehand.

Source: PostgreSQL docs, "SET TRANSACTION" (what read-only forbids); the tags of the SQL commands'
reference pages.
"""

from __future__ import annotations

from typing import Any, Final

from sql.ast import ddl as d

_FIXED: Final[dict[type, str]] = {
    d.CreateTable: "CREATE TABLE",
    d.Truncate: "TRUNCATE TABLE",
    d.CreateIndex: "CREATE INDEX",
    d.Reindex: "REINDEX",
    d.CreateSchema: "CREATE SCHEMA",
    d.CreateDatabase: "CREATE DATABASE",
    d.AlterDatabase: "ALTER DATABASE",
    d.CreateSequence: "CREATE SEQUENCE",
    d.AlterSequence: "ALTER SEQUENCE",
    d.CreateView: "CREATE VIEW",
    d.CreateRole: "CREATE ROLE",
    d.AlterRole: "ALTER ROLE",
    d.DropRole: "DROP ROLE",
    d.AlterDefaultPrivileges: "ALTER DEFAULT PRIVILEGES",
    d.ReassignOwned: "REASSIGN OWNED",
    d.DropOwned: "DROP OWNED",
    d.Comment: "COMMENT",
    d.CreateExtension: "CREATE EXTENSION",
}


def command_name(statement: Any) -> str:
    """Return a DDL statement's command tag from its syntax tree."""
    fixed = _FIXED.get(type(statement))
    if fixed is not None:
        return fixed
    match statement:
        case d.CreateTableAs():
            return "SELECT INTO" if statement.is_select_into else "CREATE TABLE AS"
        case d.Drop():
            return f"DROP {statement.kind.upper()}"
        case d.AlterTable():
            return f"ALTER {statement.relation_kind.upper()}"
        case d.Rename():
            kind = (
                statement.relation_kind
                if statement.kind in ("column", "constraint")
                else statement.kind
            )
            return f"ALTER {kind.upper()}"
        case d.SetSchema() | d.AlterOwner():
            return f"ALTER {statement.kind.upper()}"
        case d.AlterSettings():
            return (
                "ALTER DATABASE" if statement.database and statement.role is None else "ALTER ROLE"
            )
        case d.Grant():
            return "GRANT" if statement.is_grant else "REVOKE"
        case d.GrantRole(is_alter=True):
            return "ALTER ROLE"
        case d.GrantRole():
            return "GRANT ROLE" if statement.is_grant else "REVOKE ROLE"
        case _:
            return type(statement).__name__.upper()
