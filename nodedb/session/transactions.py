"""BEGIN, COMMIT, ROLLBACK, SET TRANSACTION and their relatives, as statements.

The block itself is ``nodedb.session.block``. A transaction's characteristics (isolation level, read
only, deferrable) are variables local to it, so savepoints and rollbacks treat them as they treat
every other variable.

Source: PostgreSQL docs, "BEGIN", "COMMIT", "ROLLBACK", "SET TRANSACTION".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodedb.session.api import Result
from sql.errors import (
    ActiveSqlTransaction,
    NoActiveSqlTransaction,
    ObjectNotInPrerequisiteState,
    UndefinedObject,
)

if TYPE_CHECKING:
    from nodedb.session.session import Session
    from sql.ast import utility as u


def begin(session: Session, statement: u.Begin) -> Result:
    """BEGIN and START TRANSACTION."""
    if session.block.begin(session.now()):
        session.settings.set_characteristics(session.settings.characteristics())
    else:
        session.notice("WARNING", "25001", "there is already a transaction in progress")
    _apply_modes(session, statement.modes)
    return Result("START TRANSACTION" if statement.start else "BEGIN")


def _apply_modes(session: Session, modes: u.TransactionModes) -> None:
    if modes.isolation is not None:
        _set_characteristic(session, "transaction_isolation", modes.isolation)
    if modes.read_only is not None:
        _set_characteristic(session, "transaction_read_only", "on" if modes.read_only else "off")
    if modes.deferrable is not None:
        _set_characteristic(session, "transaction_deferrable", "on" if modes.deferrable else "off")


def _set_characteristic(session: Session, name: str, value: str | None) -> None:
    """Change one characteristic of the running transaction while that may be (25001).

    None takes the default.
    """
    settings, block = session.settings, session.block
    old = settings.get(name)
    new = settings.get(f"default_{name}") if value is None else settings.checked(name, value)
    is_settled = block.has_snapshot and block.state != "idle"
    if name == "transaction_isolation":
        if new != old and is_settled:
            raise ActiveSqlTransaction(
                "SET TRANSACTION ISOLATION LEVEL must be called before any query"
            )
        if new != old and block.in_subtransaction:
            raise ActiveSqlTransaction(
                "SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction"
            )
    elif name == "transaction_read_only":
        if new == "off" and old == "on" and block.in_subtransaction:
            raise ActiveSqlTransaction(
                "cannot set transaction read-write mode inside a read-only transaction"
            )
        if new == "off" and old == "on" and is_settled:
            raise ActiveSqlTransaction("transaction read-write mode must be set before any query")
    elif block.in_subtransaction:
        raise ActiveSqlTransaction(
            "SET TRANSACTION [NOT] DEFERRABLE cannot be called within a subtransaction"
        )
    elif is_settled:
        raise ActiveSqlTransaction(
            "SET TRANSACTION [NOT] DEFERRABLE must be called before any query"
        )
    settings.set(name, new, local=True, internal=True)
    block.follow_isolation()


def change_characteristic(session: Session, name: str, value: str | None) -> None:
    """SET transaction_isolation = value, or RESET it with None.

    For the running transaction alone.
    """
    if value is None and session.block.state != "open":
        session.notice(
            "WARNING", "25P01", "RESET TRANSACTION can only be used in transaction blocks"
        )
    _set_characteristic(session, name, value)


async def commit(session: Session, statement: u.Commit) -> Result:
    """COMMIT; of a failed block it is a ROLLBACK."""
    block = session.block
    if block.state in ("idle", "implicit"):
        if statement.chain:
            raise NoActiveSqlTransaction("COMMIT AND CHAIN can only be used in transaction blocks")
        session.notice("WARNING", "25P01", "there is no transaction in progress")
        if block.state == "implicit":
            await session.commit()
        return Result("COMMIT")
    failed = block.state == "failed"
    characteristics = session.settings.characteristics()
    await session.commit()
    if statement.chain:
        _chain(session, characteristics)
    return Result("ROLLBACK" if failed else "COMMIT")


def rollback(session: Session, statement: u.Rollback) -> Result:
    """ROLLBACK."""
    if session.block.state in ("idle", "implicit"):
        if statement.chain:
            raise NoActiveSqlTransaction(
                "ROLLBACK AND CHAIN can only be used in transaction blocks"
            )
        session.notice("WARNING", "25P01", "there is no transaction in progress")
        session.rollback()
        return Result("ROLLBACK")
    characteristics = session.settings.characteristics()
    session.rollback()
    if statement.chain:
        _chain(session, characteristics)
    return Result("ROLLBACK")


def _chain(session: Session, characteristics: tuple[str, str, str]) -> None:
    """Begin the next block with the characteristics of the one that ended."""
    session.block.begin(session.now())
    session.settings.set_characteristics(characteristics)
    session.block.follow_isolation()


def prepare_transaction(
    session: Session, statement: u.PrepareTransaction, *, in_multi_statement: bool
) -> Result:
    """PREPARE TRANSACTION ends the block.

    There are no prepared transactions to commit or roll back.
    """
    if statement.action != "prepare":
        if session.block.state == "open" or in_multi_statement:
            verb = statement.action.upper()
            raise ActiveSqlTransaction(f"{verb} PREPARED cannot run inside a transaction block")
        raise UndefinedObject(
            f'prepared transaction with identifier "{statement.gid}" does not exist'
        )
    state = session.block.state
    if state == "open":
        session.rollback()
        raise ObjectNotInPrerequisiteState(
            "prepared transactions are disabled",
            hint="Set max_prepared_transactions to a nonzero value.",
        )
    if state != "failed":
        session.notice("WARNING", "25P01", "there is no transaction in progress")
    session.rollback()
    return Result("ROLLBACK")


def set_transaction(session: Session, statement: u.SetTransaction) -> Result:
    """SET TRANSACTION and SET SESSION CHARACTERISTICS."""
    modes = statement.modes
    if statement.session:
        settings = session.settings
        if modes.isolation is not None:
            settings.set("default_transaction_isolation", modes.isolation, local=False)
        if modes.read_only is not None:
            settings.set(
                "default_transaction_read_only", "on" if modes.read_only else "off", local=False
            )
        if modes.deferrable is not None:
            settings.set(
                "default_transaction_deferrable", "on" if modes.deferrable else "off", local=False
            )
        return Result("SET")
    if session.block.state != "open":
        session.notice("WARNING", "25P01", "SET TRANSACTION can only be used in transaction blocks")
        return Result("SET")
    _apply_modes(session, modes)
    return Result("SET")
