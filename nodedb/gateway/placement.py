"""Where a statement may run: at any node, or only where the rows' group is led.

The rule is: when in doubt, at the leader. A statement stays at the node whose client sent it if it
is known to touch nothing but its session and the catalog, so that sessions, catalogs and the state
of the cluster can be looked at without a leader. ``EFFECTS`` is everything that may not run twice.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from sql.ast import ddl
from sql.ast import utility as u
from sql.ast.query import Delete, Insert, Select, SetOperation, Update, Values
from sql.binder.bound import (
    CallExpr,
    DeletePlan,
    InsertPlan,
    LockPlan,
    SequenceScan,
    TableScan,
    UpdatePlan,
    VirtualScan,
)
from sql.binder.tree import walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from sql.ast.query import DmlStatement
    from sql.ast.utility import Statement
    from sql.binder.bound import BoundStatement

_QUERIES: Final = (Select, SetOperation, Values, Insert, Update, Delete)


class Placement(IntEnum):
    """In the order of what a batch of several statements needs: the highest counts."""

    HERE = 0
    """Touches the session and the catalog only."""
    ROWS = 1
    """Reads rows of tables, and nothing else of the leader: a replica may do for stale reads."""
    LEADER = 2
    """Needs what only the leader has; running it twice does no harm."""
    EFFECTS = 3
    """May write, or do what cannot be taken back, or nobody knows."""


# Volatile functions, and functions of the transaction, that need nothing but their node.
_HARMLESS: Final = frozenset(
    (
        "clock_timestamp",
        "gen_random_uuid",
        "pg_collation_actual_version",
        "pg_database_collation_actual_version",
        "pg_database_size",
        "pg_indexes_size",
        "pg_is_in_recovery",
        "pg_is_wal_replay_paused",
        "pg_jit_available",
        "pg_last_wal_receive_lsn",
        "pg_last_wal_replay_lsn",
        "pg_last_xact_replay_timestamp",
        "pg_partition_ancestors",
        "pg_partition_tree",
        "pg_relation_size",
        "pg_sleep",
        "pg_sleep_for",
        "pg_sleep_until",
        "pg_stat_clear_snapshot",
        "pg_table_size",
        "pg_tablespace_size",
        "pg_total_relation_size",
        "random",
        "set_config",
        "setseed",
        "timeofday",
    )
)
# What looks at the leader's memory, or at the session's part of it, without changing it.
_READS_LEADER: Final = frozenset(
    (
        "currval",
        "lastval",
        "pg_blocking_pids",
        "pg_isolation_test_session_is_blocked",
        "pg_listening_channels",
        "pg_lock_status",
        "pg_notification_queue_usage",
        "pg_safe_snapshot_blocking_pids",
        "pg_sequence_last_value",
    )
)
_NUMBERS_TRANSACTION: Final = frozenset(
    (
        "pg_current_xact_id",
        "pg_current_xact_id_if_assigned",
        "txid_current",
        "txid_current_if_assigned",
    )
)
# System views of what the leader's sessions and sequences are doing.
_LEADER_VIEWS: Final = frozenset(
    ("pg_cursors", "pg_locks", "pg_sequences", "pg_stat_progress_create_index")
)
_WRITES: Final = (InsertPlan, UpdatePlan, DeletePlan, LockPlan)

_HERE: Final = (
    u.Begin,
    u.Commit,
    u.Rollback,
    u.SetTransaction,
    u.SetVariable,
    u.ShowVariable,
    u.ShowCluster,
    u.ResetVariable,
    u.Deallocate,
    u.EmptyStatement,
)
_RECORDABLE: Final = (
    ddl.AlterDefaultPrivileges,
    ddl.AlterOwner,
    ddl.AlterRole,
    ddl.AlterSequence,
    ddl.AlterSettings,
    ddl.AlterTable,
    ddl.Comment,
    ddl.CreateExtension,
    ddl.CreateIndex,
    ddl.CreateRole,
    ddl.CreateSchema,
    ddl.CreateSequence,
    ddl.CreateTable,
    ddl.CreateTableAs,
    ddl.CreateView,
    ddl.Drop,
    ddl.DropOwned,
    ddl.DropRole,
    ddl.Grant,
    ddl.GrantRole,
    ddl.ReassignOwned,
    ddl.Rename,
    ddl.SetSchema,
    ddl.Truncate,
)
_AT_LEADER: Final = (u.Listen, u.Unlisten, u.SetConstraints, u.LockTable)
_SAVEPOINTS: Final = (u.Savepoint, u.ReleaseSavepoint, u.RollbackToSavepoint)


def place_bound(bound: BoundStatement) -> Placement:
    """Return where a bound query or DML statement may run."""
    if bound.kind != "select":
        return Placement.EFFECTS
    placement = Placement.HERE
    for node in walk(bound.plan):
        found = _place_node(node)
        if found > placement:
            placement = found
            if placement is Placement.EFFECTS:
                break
    return placement


def _place_node(node: Any) -> Placement:
    if isinstance(node, CallExpr):
        return _place_function(node.function.name, node.function.volatility)
    if isinstance(node, TableScan):
        return Placement.ROWS
    if isinstance(node, SequenceScan):
        return Placement.LEADER
    if isinstance(node, VirtualScan):
        return Placement.LEADER if node.table.name in _LEADER_VIEWS else Placement.HERE
    if isinstance(node, _WRITES):
        return Placement.EFFECTS
    return Placement.HERE


def _place_function(name: str, volatility: str) -> Placement:
    if name in _READS_LEADER:
        return Placement.LEADER
    if name in _NUMBERS_TRANSACTION:
        return Placement.EFFECTS
    if volatility != "volatile" or name in _HARMLESS:
        return Placement.HERE
    return Placement.EFFECTS


def place_statement(
    statement: Statement | None,
    place_query: Callable[[DmlStatement], Placement],
    place_prepared: Callable[[u.ExecutePrepared], Placement],
    *,
    is_in_block: bool,
) -> Placement:
    """Return where a statement may run outside a block, or in one that has touched no rows.

    ``place_query`` knows of queries and DML, ``place_prepared`` of what EXECUTE names; None is the
    empty statement.
    """
    if statement is None or isinstance(statement, _HERE):
        return Placement.HERE
    if isinstance(statement, _QUERIES):
        return place_query(statement)
    if isinstance(statement, u.Prepare):
        place_query(statement.statement)  # Raises what PREPARE would.
        return Placement.HERE
    if isinstance(statement, u.ExecutePrepared):
        return place_prepared(statement)
    if isinstance(statement, u.Explain):
        return _place_explain(statement, place_query)
    if isinstance(statement, u.Copy) and not statement.is_from:
        query = Placement.ROWS if statement.query is None else place_query(statement.query)
        return max(query, Placement.LEADER)
    if isinstance(statement, _AT_LEADER):
        return Placement.LEADER
    if isinstance(statement, _SAVEPOINTS) and not is_in_block:
        return Placement.HERE  # It fails.
    if isinstance(statement, u.Discard) and statement.what == "plans":
        return Placement.HERE
    return Placement.EFFECTS


def _place_explain(
    statement: u.Explain, place_query: Callable[[DmlStatement], Placement]
) -> Placement:
    """Place EXPLAIN: what only plans may be repeated, but it plans like the leader."""
    if not isinstance(statement.statement, _QUERIES):
        return Placement.EFFECTS
    placement = place_query(statement.statement)
    is_run = any(option.name.lower() == "analyze" for option in statement.options)
    if placement is Placement.HERE or (is_run and placement is Placement.EFFECTS):
        return placement
    return Placement.LEADER


def is_recordable(statement: Statement | None) -> bool:
    """Tell whether all that a statement does outside a block comes with its commit.

    Or else may be done twice: it draws from a sequence, or takes locks until its end. What calls
    pg_notify is for the caller to leave out.
    """
    return isinstance(statement, (*_QUERIES, *_RECORDABLE))


def changes_transaction(statement: Statement | None) -> tuple[bool, bool]:
    """Tell whether a statement may begin a transaction block, and whether it may end one."""
    if isinstance(statement, u.Begin):
        return True, False
    if isinstance(statement, (u.Commit, u.Rollback)):
        return statement.chain, True
    return False, isinstance(statement, u.PrepareTransaction)
