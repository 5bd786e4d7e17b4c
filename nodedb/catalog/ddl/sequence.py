"""CREATE and ALTER SEQUENCE, and the sequences of serial and identity columns.

Source: PostgreSQL docs, "CREATE SEQUENCE", "ALTER SEQUENCE".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from nodedb.catalog.ddl.objects import (
    creation_schema,
    find_any,
    initial_acl,
    is_temporary,
    kind_of,
    name_exists,
    refuse_system,
    require_owner,
    skip_missing,
    undefined,
)
from nodedb.catalog.ddl.types import resolve_type
from sql.ast.query import QualifiedName
from sql.catalog.descriptor import Sequence, Table
from sql.errors import (
    FeatureNotSupported,
    InvalidParameterValue,
    ObjectNotInPrerequisiteState,
    SqlSyntaxError,
    UndefinedColumn,
    WrongObjectType,
)
from sql.types.catalog import INT2, INT4, INT8, type_by_oid

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.ddl import AlterSequence, CreateSequence, SequenceOptions
    from sql.types.base import SqlType

RANGES = {
    INT2.oid: (-(1 << 15), (1 << 15) - 1),
    INT4.oid: (-(1 << 31), (1 << 31) - 1),
    INT8.oid: (-(1 << 63), (1 << 63) - 1),
}


@dataclass(frozen=True, slots=True)
class SequenceShape:
    """A sequence's options after defaults and checks."""

    type_oid: int
    start: int
    increment: int
    min_value: int
    max_value: int
    cache: int
    cycle: bool


def _type_of(options: SequenceOptions, default: SqlType) -> SqlType:
    if options.data_type is None:
        return default
    found, _ = resolve_type(options.data_type)
    if found.oid not in RANGES:
        raise InvalidParameterValue("sequence type must be smallint, integer, or bigint")
    return found


def shape_sequence(
    options: SequenceOptions,
    old: Sequence | None = None,
    default_type: SqlType = INT8,
    last_value: int | None = None,
) -> SequenceShape:
    """Apply options to a new sequence or to ``old``; 22023 for contradictions.

    ``last_value`` is the running value after the change, if there is one.
    """
    old_type = type_by_oid(old.type_oid) if old is not None else None
    new_type = _type_of(options, old_type or default_type)
    increment = options.increment
    if increment is None:
        increment = old.increment if old is not None else 1
    if increment == 0:
        raise InvalidParameterValue("INCREMENT must not be zero")
    cycle = options.cycle if options.cycle is not None else bool(old and old.cycle)
    low, high = RANGES[new_type.oid]
    maximum = _limit(
        options.max_value,
        reset=options.no_max_value,
        old=_kept(old, new_type, 1),
        default=high if increment > 0 else -1,
    )
    minimum = _limit(
        options.min_value,
        reset=options.no_min_value,
        old=_kept(old, new_type, 0),
        default=1 if increment > 0 else low,
    )
    name = new_type.display_name
    if not low <= maximum <= high:
        raise InvalidParameterValue(
            f"MAXVALUE ({maximum}) is out of range for sequence data type {name}"
        )
    if not low <= minimum <= high:
        raise InvalidParameterValue(
            f"MINVALUE ({minimum}) is out of range for sequence data type {name}"
        )
    if minimum >= maximum:
        raise InvalidParameterValue(f"MINVALUE ({minimum}) must be less than MAXVALUE ({maximum})")
    start = options.start
    if start is None:
        start = old.start if old is not None else (minimum if increment > 0 else maximum)
    _check_range("START value", start, minimum, maximum)
    value = start if old is None and last_value is None else last_value
    if options.restart is not None:
        restart = options.restart[0]
        value = start if restart is None else restart
    if value is not None:
        _check_range("RESTART value", value, minimum, maximum)
    cache = options.cache if options.cache is not None else (old.cache if old else 1)
    if cache <= 0:
        raise InvalidParameterValue(f"CACHE ({cache}) must be greater than zero")
    return SequenceShape(new_type.oid, start, increment, minimum, maximum, cache, cycle)


def _kept(old: Sequence | None, new_type: SqlType, which: int) -> int | None:
    """Return the old limit, unless it was just the old type's own and the type changes."""
    if old is None:
        return None
    value = (old.min_value, old.max_value)[which]
    if old.type_oid != new_type.oid and value == RANGES[old.type_oid][which]:
        return None
    return value


def _limit(given: int | None, *, reset: bool, old: int | None, default: int) -> int:
    if given is not None:
        return given
    return default if reset or old is None else old


def _check_range(what: str, value: int, minimum: int, maximum: int) -> None:
    if value < minimum:
        raise InvalidParameterValue(f"{what} ({value}) cannot be less than MINVALUE ({minimum})")
    if value > maximum:
        raise InvalidParameterValue(f"{what} ({value}) cannot be greater than MAXVALUE ({maximum})")


async def make_sequence(
    env: DdlEnvironment,
    name: str,
    schema_id: int,
    options: SequenceOptions,
    *,
    default_type: SqlType = INT8,
    owned_by: tuple[int, int] | None = None,
    identity: bool = False,
    owner: int | None = None,
) -> Sequence:
    """Create a sequence and return its descriptor."""
    shape = shape_sequence(options, default_type=default_type)
    sequence_id = env.overlay.allocate_id()
    sequence = Sequence(
        id=sequence_id,
        name=name,
        owner=env.catalog.user_id if owner is None else owner,
        acl=initial_acl(env, "S", schema_id),
        schema_id=schema_id,
        owned_by=owned_by,
        identity=identity,
        storage_id=sequence_id,
        temporary_session=env.session_id if is_temporary(env, schema_id) else 0,
        **_fields(shape),
    )
    env.overlay.put(sequence)
    value = shape.start
    if options.restart is not None and options.restart[0] is not None:
        value = options.restart[0]
    await env.begin_sequence(sequence, value, is_called=False)
    return sequence


def _fields(shape: SequenceShape | Sequence) -> dict[str, Any]:
    return {
        "type_oid": shape.type_oid,
        "start": shape.start,
        "increment": shape.increment,
        "min_value": shape.min_value,
        "max_value": shape.max_value,
        "cache": shape.cache,
        "cycle": shape.cycle,
    }


async def create_sequence(env: DdlEnvironment, statement: CreateSequence) -> str:
    """CREATE SEQUENCE."""
    name = statement.name
    schema_id = creation_schema(env, name, temporary=statement.temporary)
    if name_exists(env, schema_id, name.name, if_not_exists=statement.if_not_exists):
        return "CREATE SEQUENCE"
    sequence = await make_sequence(env, name.name, schema_id, statement.options)
    if statement.options.owned_by:
        env.overlay.put(_owned(env, sequence, statement.options.owned_by))
    return "CREATE SEQUENCE"


def _owned(env: DdlEnvironment, sequence: Sequence, path: tuple[str, ...]) -> Sequence:
    """Return the sequence with the column of OWNED BY as its owner."""
    if len(path) == 1:
        if path[0] != "none":
            raise SqlSyntaxError(
                "invalid OWNED BY option", hint="Specify OWNED BY table.column or OWNED BY NONE."
            )
        return msgspec.structs.replace(sequence, owned_by=None)
    name = QualifiedName(path[-2], path[-3] if len(path) > 2 else "")
    table = find_any(env, name)
    if table is None:
        raise undefined(env, name)
    if not isinstance(table, Table):
        raise WrongObjectType(
            f'sequence cannot be owned by relation "{name.name}"',
            detail=f"This operation is not supported for {kind_of(table)}s.",
        )
    if table.owner != sequence.owner:
        raise ObjectNotInPrerequisiteState("sequence must have same owner as table it is linked to")
    if table.schema_id != sequence.schema_id:
        raise ObjectNotInPrerequisiteState(
            "sequence must be in same schema as table it is linked to"
        )
    column = table.column_by_name.get(path[-1])
    if column is None:
        raise UndefinedColumn(f'column "{path[-1]}" of relation "{table.name}" does not exist')
    return msgspec.structs.replace(sequence, owned_by=(table.id, column.position))


async def change_sequence(
    env: DdlEnvironment, sequence: Sequence, options: SequenceOptions
) -> None:
    """Apply ALTER SEQUENCE's or an identity column's options.

    The value goes on in a new storage: nobody else sees it before COMMIT, or ever after ROLLBACK.
    """
    await env.lock_table(sequence.id, "share row exclusive")
    last_value, is_called = await env.sequence_state(sequence)
    shape = shape_sequence(options, sequence, last_value=last_value)
    changed = msgspec.structs.replace(sequence, **_fields(shape))
    if options.owned_by:
        if sequence.identity:
            raise FeatureNotSupported(
                "cannot change ownership of identity sequence", detail=_link(env, sequence)
            )
        changed = _owned(env, changed, options.owned_by)
    if options.restart is not None:
        value = options.restart[0]
        last_value, is_called = (shape.start if value is None else value), False
    if options.restart is not None or _fields(shape) != _fields(sequence):
        changed = await restart_sequence(env, changed, last_value, is_called=is_called)
    elif changed != sequence:
        env.overlay.put(changed)


def _link(env: DdlEnvironment, sequence: Sequence) -> str:
    assert sequence.owned_by is not None, sequence
    table = env.overlay.snapshot.table(sequence.owned_by[0])
    assert table is not None, sequence
    return f'Sequence "{sequence.name}" is linked to table "{table.name}".'


async def restart_sequence(
    env: DdlEnvironment, sequence: Sequence, value: int, *, is_called: bool
) -> Sequence:
    """Store a sequence with a new storage that has this value, and have the old one forgotten."""
    changed = msgspec.structs.replace(sequence, storage_id=env.overlay.allocate_id())
    env.overlay.put(changed)
    await env.begin_sequence(changed, value, is_called=is_called)
    await env.clear_sequence(sequence.storage_id)
    return changed


async def alter_sequence(env: DdlEnvironment, statement: AlterSequence) -> str:
    """ALTER SEQUENCE with options."""
    found = find_any(env, statement.name)
    if found is None:
        if not statement.if_exists:
            raise undefined(env, statement.name)
        skip_missing(env, f'relation "{statement.name.name}"')
        return "ALTER SEQUENCE"
    refuse_system(env, found)
    if not isinstance(found, Sequence):
        raise WrongObjectType(f'"{statement.name.name}" is not a sequence')
    require_owner(env, found)
    await change_sequence(env, found, statement.options)
    return "ALTER SEQUENCE"
