"""Session, transaction and administrative statements."""

from __future__ import annotations

from typing import Final, Literal, Union

from sql.ast.ddl import CreateTableAs, DdlStatement, OptionValue, StorageOption
from sql.ast.node import Node
from sql.ast.query import DmlStatement, Expression, QualifiedName, TypeName
from sql.span import NO_SPAN, Span

INTERNAL_SCHEMA: Final = "nodedb_internal"
SHOW_SOURCES: Final = {
    what: what.replace(" ", "_")
    for what in (
        "ranges",
        "routing",
        "schema version",
        "nodes",
        "cluster",
        "raft groups",
        "peer health",
    )
}
"""SHOW statements that FROM takes in brackets, and the view of INTERNAL_SCHEMA each stands for."""

IsolationLevel = Literal["read uncommitted", "read committed", "repeatable read", "serializable"]


class TransactionModes(Node, frozen=True):
    """``ISOLATION LEVEL``, ``READ ONLY | WRITE``, ``[NOT] DEFERRABLE``, ``AS OF SYSTEM TIME``.

    None: not given.
    """

    isolation: IsolationLevel | None = None
    read_only: bool | None = None
    deferrable: bool | None = None


class Begin(Node, frozen=True):
    """BEGIN or START TRANSACTION; ``start`` tells which, for the command tag."""

    modes: TransactionModes = TransactionModes()
    start: bool = False
    span: Span = NO_SPAN


class Commit(Node, frozen=True):
    """COMMIT or END [AND [NO] CHAIN]."""

    chain: bool = False
    span: Span = NO_SPAN


class Rollback(Node, frozen=True):
    """ROLLBACK or ABORT [AND [NO] CHAIN]."""

    chain: bool = False
    span: Span = NO_SPAN


class Savepoint(Node, frozen=True):
    """``SAVEPOINT name``."""

    name: str
    span: Span = NO_SPAN


class ReleaseSavepoint(Node, frozen=True):
    """``RELEASE [SAVEPOINT] name``."""

    name: str
    span: Span = NO_SPAN


class RollbackToSavepoint(Node, frozen=True):
    """``ROLLBACK TO [SAVEPOINT] name``."""

    name: str
    span: Span = NO_SPAN


class PrepareTransaction(Node, frozen=True):
    """PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.

    ``action`` prepare, commit or rollback.
    """

    action: Literal["prepare", "commit", "rollback"]
    gid: str
    span: Span = NO_SPAN


class SetTransaction(Node, frozen=True):
    """``SET [SESSION CHARACTERISTICS AS] TRANSACTION modes``."""

    modes: TransactionModes
    session: bool = False
    span: Span = NO_SPAN


class SetConstraints(Node, frozen=True):
    """``SET CONSTRAINTS ALL | names DEFERRED | IMMEDIATE``; names () means ALL."""

    names: tuple[QualifiedName, ...]
    deferred: bool
    span: Span = NO_SPAN


class SetVariable(Node, frozen=True):
    """``SET [SESSION|LOCAL] name {=|TO} value, ... | DEFAULT``.

    ``values`` None means DEFAULT. SET TIME ZONE, NAMES, ROLE, SESSION AUTHORIZATION, SCHEMA come
    here under their variable's name (timezone, client_encoding, role, session_authorization,
    search_path).
    """

    name: str
    values: tuple[OptionValue, ...] | None
    local: bool = False
    span: Span = NO_SPAN


class ShowVariable(Node, frozen=True):
    """``SHOW name`` or ``SHOW ALL`` (name "all")."""

    name: str
    span: Span = NO_SPAN


class ShowCluster(Node, frozen=True):
    """nodedb's SHOW statements.

    ``what`` is "schema version", "ranges", "routing", "nodes"...; ``args`` are the id of a node or
    group, or the values of a key of ``table`` (ROUTING FOR TABLE), numbers with a point as text.
    """

    what: str
    args: tuple[OptionValue, ...] = ()
    span: Span = NO_SPAN
    table: QualifiedName | None = None


class ResetVariable(Node, frozen=True):
    """``RESET name`` or ``RESET ALL`` (name "all")."""

    name: str
    span: Span = NO_SPAN


class Discard(Node, frozen=True):
    """``DISCARD ALL | PLANS | SEQUENCES | TEMP``."""

    what: Literal["all", "plans", "sequences", "temp"]
    span: Span = NO_SPAN


class Prepare(Node, frozen=True):
    """``PREPARE name [(types)] AS statement``."""

    name: str
    types: tuple[TypeName, ...]
    statement: DmlStatement
    span: Span = NO_SPAN


class ExecutePrepared(Node, frozen=True):
    """``EXECUTE name [(args)]``."""

    name: str
    args: tuple[Expression, ...] = ()
    span: Span = NO_SPAN


class Deallocate(Node, frozen=True):
    """``DEALLOCATE [PREPARE] name | ALL``; name "" means ALL."""

    name: str
    span: Span = NO_SPAN


class DeclareCursor(Node, frozen=True):
    """``DECLARE name [BINARY] [[NO] SCROLL] CURSOR [WITH|WITHOUT HOLD] FOR query``."""

    name: str
    query: DmlStatement
    binary: bool = False
    scroll: bool | None = None
    hold: bool = False
    conflict: str = ""
    """Two options that exclude each other, as the message names them."""
    span: Span = NO_SPAN


class Fetch(Node, frozen=True):
    """FETCH or MOVE.

    ``direction`` forward, backward, absolute or relative; ``count`` None means ALL.
    """

    cursor: str
    direction: Literal["forward", "backward", "absolute", "relative"]
    count: int | None
    move: bool = False
    span: Span = NO_SPAN


class CloseCursor(Node, frozen=True):
    """``CLOSE name | ALL``; name "" means ALL."""

    name: str
    span: Span = NO_SPAN


class Explain(Node, frozen=True):
    """``EXPLAIN [ANALYZE] [VERBOSE] | (option [value], ...) statement``."""

    statement: DmlStatement | CreateTableAs | ExecutePrepared | DeclareCursor
    options: tuple[StorageOption, ...] = ()
    span: Span = NO_SPAN


class Copy(Node, frozen=True):
    """``COPY table [(columns)] | (query) FROM | TO STDIN | STDOUT | 'file' [WITH.

    ...] [WHERE ...]``.

    Options keep PostgreSQL's names (format, delimiter, null, header, quote, escape, force_quote,
    force_not_null, force_null, encoding, freeze); column lists stand in ``column_options``.
    ``target`` is "stdin", "stdout", "file" or "program".
    """

    table: QualifiedName | None
    columns: tuple[str, ...]
    query: DmlStatement | None
    is_from: bool
    target: Literal["stdin", "stdout", "file", "program"]
    options: tuple[StorageOption, ...] = ()
    column_options: tuple[tuple[str, tuple[str, ...]], ...] = ()
    where: Expression | None = None
    span: Span = NO_SPAN


class Listen(Node, frozen=True):
    """``LISTEN channel``."""

    channel: str
    span: Span = NO_SPAN


class Unlisten(Node, frozen=True):
    """``UNLISTEN channel | *``; channel "" means all."""

    channel: str
    span: Span = NO_SPAN


class Notify(Node, frozen=True):
    """``NOTIFY channel [, payload]``."""

    channel: str
    payload: str = ""
    span: Span = NO_SPAN


class LockTable(Node, frozen=True):
    """``LOCK [TABLE] names [IN mode MODE] [NOWAIT]``; mode in lower case, e.g.

    "access exclusive".
    """

    names: tuple[QualifiedName, ...]
    mode: str
    nowait: bool = False
    span: Span = NO_SPAN


class Analyze(Node, frozen=True):
    """``ANALYZE [table [(columns)]]``; no table means all."""

    tables: tuple[tuple[QualifiedName, tuple[str, ...]], ...] = ()
    options: tuple[StorageOption, ...] = ()
    span: Span = NO_SPAN


class Vacuum(Node, frozen=True):
    """``VACUUM [(options)] [table ...]``; option analyze also gathers statistics."""

    tables: tuple[tuple[QualifiedName, tuple[str, ...]], ...] = ()
    options: tuple[StorageOption, ...] = ()
    span: Span = NO_SPAN


class Checkpoint(Node, frozen=True):
    """CHECKPOINT."""

    span: Span = NO_SPAN


class AlterSystem(Node, frozen=True):
    """``ALTER SYSTEM SET name = value | RESET name | RESET ALL``.

    See AlterSettings for ``values``.
    """

    name: str
    values: tuple[OptionValue, ...] | None
    span: Span = NO_SPAN


class AlterCluster(Node, frozen=True):
    """``ALTER CLUSTER SET name = value | RESET name | RESET ALL``; ``ALTER NODE n`` likewise.

    ``node_id`` 0 is the cluster. See AlterSettings for ``values``; ``name_span`` is the setting's.
    """

    node_id: int
    name: str
    values: tuple[OptionValue, ...] | None
    span: Span = NO_SPAN
    name_span: Span = NO_SPAN


class Do(Node, frozen=True):
    """``DO 'code'``: 0A000 (no procedural language)."""

    span: Span = NO_SPAN


class EmptyStatement(Node, frozen=True):
    """Nothing between two semicolons; answered by EmptyQueryResponse when it is all there is."""

    span: Span = NO_SPAN


UtilityStatement = Union[
    Begin,
    Commit,
    Rollback,
    Savepoint,
    ReleaseSavepoint,
    RollbackToSavepoint,
    PrepareTransaction,
    SetTransaction,
    SetConstraints,
    SetVariable,
    ShowVariable,
    ShowCluster,
    ResetVariable,
    Discard,
    Prepare,
    ExecutePrepared,
    Deallocate,
    DeclareCursor,
    Fetch,
    CloseCursor,
    Explain,
    Copy,
    Listen,
    Unlisten,
    Notify,
    LockTable,
    Analyze,
    Vacuum,
    Checkpoint,
    AlterSystem,
    AlterCluster,
    Do,
    EmptyStatement,
]
Statement = Union[DmlStatement, DdlStatement, UtilityStatement]
