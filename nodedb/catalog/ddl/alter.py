"""ALTER TABLE: its actions in PostgreSQL's order of passes.

Drops go first, then type changes, new columns, changes of column attributes, constraints, and the
rest; so ``ADD COLUMN b, ADD CHECK (b > 0)`` works in any order. Source: PostgreSQL docs, "ALTER
TABLE".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import msgspec

from nodedb.catalog.ddl import owner
from nodedb.catalog.ddl.binding import bind_over
from nodedb.catalog.ddl.columns import (
    add_column,
    add_identity,
    analyze_definition,
    bind_default,
    check_identity_type,
    set_generated,
)
from nodedb.catalog.ddl.constraints import add_check, add_foreign_key, add_key, primary_positions
from nodedb.catalog.ddl.dependency import Address, DropPlan, constraint_name, index_uses
from nodedb.catalog.ddl.editor import TableEditor
from nodedb.catalog.ddl.objects import find_any, kind_of, require_owner, require_table, shown_name
from nodedb.catalog.ddl.options import DISTRIBUTE_BY, check_options
from nodedb.catalog.ddl.places import without_position
from nodedb.catalog.ddl.relabel import is_relabel
from nodedb.catalog.ddl.rewrite import columns_in
from nodedb.catalog.ddl.sequence import RANGES, change_sequence
from nodedb.catalog.ddl.types import (
    check_collation,
    check_column_type,
    check_indexable,
    resolve_type,
)
from nodedb.catalog.ddl.view import alter_view
from sql.ast.ddl import (
    AddColumn,
    AddConstraint,
    AlterColumnAddIdentity,
    AlterColumnDefault,
    AlterColumnDropExpression,
    AlterColumnDropIdentity,
    AlterColumnNotNull,
    AlterColumnOptions,
    AlterColumnSetIdentity,
    AlterColumnType,
    AlterConstraint,
    AlterTable,
    AlterTableAction,
    CheckConstraint,
    DropColumn,
    DropConstraint,
    ForeignKeyConstraint,
    OwnerTo,
    ReplicaIdentity,
    ResetOptions,
    RowSecurity,
    SetOptions,
    UniqueConstraint,
    ValidateConstraint,
)
from sql.ast.deparse_names import quote_identifier
from sql.ast.query import ColumnRef, NullLiteral, StringLiteral
from sql.ast.walk import strip_spans
from sql.catalog.descriptor import Check, Column, ForeignKey, Sequence, Table, View
from sql.errors import (
    DatatypeMismatch,
    DuplicateColumn,
    FeatureNotSupported,
    InvalidParameterValue,
    InvalidTableDefinition,
    ObjectNotInPrerequisiteState,
    SqlSyntaxError,
    UndefinedColumn,
    UndefinedObject,
    WrongObjectType,
)
from sql.types.catalog import type_by_oid
from sql.types.typmod import format_type

if TYPE_CHECKING:
    from nodedb.catalog.ddl.columns import Definition
    from nodedb.catalog.ddl.environment import DdlEnvironment

_ACTION_NAMES = {
    AddColumn: "ADD COLUMN",
    DropColumn: "DROP COLUMN",
    AlterColumnType: "ALTER COLUMN ... SET DATA TYPE",
    AlterColumnDefault: "ALTER COLUMN ... SET DEFAULT",
    AddConstraint: "ADD CONSTRAINT",
    DropConstraint: "DROP CONSTRAINT",
    ValidateConstraint: "VALIDATE CONSTRAINT",
    AlterConstraint: "ALTER CONSTRAINT",
    SetOptions: "SET",
    ResetOptions: "RESET",
}


def _pass(action: AlterTableAction) -> int:
    match action:
        case DropColumn() | DropConstraint() | AlterColumnDropExpression():
            return 0
        case AlterColumnNotNull():
            return 3 if action.not_null else 0
        case AlterColumnType():
            return 1
        case AddColumn():
            return 2
        case AlterColumnDefault():
            return 0 if action.expression is None else 4
        case AlterColumnSetIdentity() | AlterColumnAddIdentity() | AlterColumnDropIdentity():
            return 4
        case AddConstraint():
            return 6 if isinstance(action.constraint, ForeignKeyConstraint) else 5
        case _:
            return 7


async def alter_table(env: DdlEnvironment, statement: AlterTable) -> str:
    """ALTER TABLE (also as ALTER INDEX, VIEW or SEQUENCE with the same actions)."""
    tag = f"ALTER {statement.relation_kind.upper()}"
    found = find_any(env, statement.name)
    if isinstance(found, (View, Sequence)) or (found is not None and kind_of(found) == "index"):
        return await _alter_other(env, statement, tag)
    first = statement.actions[0]
    table = require_table(
        env,
        statement.name,
        missing_ok=statement.if_exists,
        action=_ACTION_NAMES.get(type(first), "ALTER COLUMN"),
    )
    if table is None:
        return tag
    if statement.relation_kind != "table":
        article = "an" if statement.relation_kind == "index" else "a"
        raise WrongObjectType(f'"{table.name}" is not {article} {statement.relation_kind}')
    await env.lock_table(table.id, _lock_mode(statement.actions))
    env.require_unused(table, "ALTER TABLE")
    await _Alteration(env, table).run(statement.actions)
    return tag


def _lock_mode(actions: tuple[AlterTableAction, ...]) -> str:
    """Return the lock that the actions need: the strongest of theirs (AlterTableGetLockLevel)."""
    if all(isinstance(action, ValidateConstraint) or _is_statistics(action) for action in actions):
        return "share update exclusive"
    if all(
        isinstance(action, AddConstraint) and isinstance(action.constraint, ForeignKeyConstraint)
        for action in actions
    ):
        return "share row exclusive"
    return "access exclusive"


def _is_statistics(action: AlterTableAction) -> bool:
    return isinstance(action, AlterColumnOptions) and action.option.lower() == "statistics"


class _Alteration:
    """One ALTER TABLE over one table."""

    def __init__(self, env: DdlEnvironment, table: Table) -> None:
        self.env = env
        self.table_id = table.id
        self.editor = TableEditor(env, table, table)

    async def run(self, actions: tuple[AlterTableAction, ...]) -> None:
        """Run the actions pass by pass.

        Drops take effect in the overlay before the rest is planned.
        """
        for action in sorted(actions, key=_pass):
            if isinstance(action, (DropColumn, DropConstraint)):
                await self._drop(action)
            else:
                await self._edit(action)
        await self.editor.store()

    async def _drop(self, action: DropColumn | DropConstraint) -> None:
        await self.editor.store()
        table = self.env.overlay.snapshot.table(self.table_id)
        assert table is not None
        address = (
            self._column_to_drop(table, action)
            if isinstance(action, DropColumn)
            else self._constraint_to_drop(table, action)
        )
        if address is not None:
            if isinstance(action, DropConstraint):
                self._require_unused_parent(table, address.part)
            plan = DropPlan(self.env, [address])
            await plan.lock()
            plan.run_checks(cascade=action.behavior == "cascade")
            await plan.execute()
            table = self.env.overlay.snapshot.table(self.table_id)
            assert table is not None
        self.editor = TableEditor(self.env, table, table)

    def _require_unused_parent(self, table: Table, key_id: int) -> None:
        for key in table.foreign_keys:
            parent = self.env.overlay.snapshot.table(key.referenced_table_id)
            if key.id == key_id and parent is not None:
                self.env.require_unused(parent, "ALTER TABLE")

    def _column_to_drop(self, table: Table, action: DropColumn) -> Address | None:
        column = table.column_by_name.get(action.name)
        if column is None:
            what = f'column "{action.name}" of relation "{table.name}" does not exist'
            if not action.if_exists:
                raise UndefinedColumn(what)
            self.env.notice("NOTICE", "00000", f"{what}, skipping")
            return None
        return Address("column", table.id, column.position)

    def _constraint_to_drop(self, table: Table, action: DropConstraint) -> Address | None:
        found = constraint_id(table, action.name)
        if found is None:
            what = f'constraint "{action.name}" of relation "{table.name}" does not exist'
            if not action.if_exists:
                raise UndefinedObject(what)
            self.env.notice("NOTICE", "00000", f"{what}, skipping")
            return None
        return Address("constraint", table.id, found)

    async def _edit(self, action: AlterTableAction) -> None:
        editor = self.editor
        match action:
            case AddColumn():
                await self._add_column(action)
            case AlterColumnType():
                self._alter_type(action)
            case AlterColumnDefault():
                self._set_default(action)
            case AlterColumnNotNull():
                self._set_not_null(action)
            case AlterColumnAddIdentity():
                await self._add_identity(action)
            case AlterColumnSetIdentity():
                await self._set_identity(action)
            case AlterColumnDropIdentity():
                await self._drop_identity(action)
            case AlterColumnDropExpression():
                self._drop_expression(action)
            case AlterColumnOptions():
                self._set_column_option(action)
            case AddConstraint():
                self._add_constraint(action)
            case AlterConstraint():
                self._alter_constraint(action)
            case ValidateConstraint():
                await self._validate(action)
            case SetOptions():
                self._set_options(action)
            case ResetOptions():
                editor.change(
                    options=tuple(o for o in editor.table.options if o[0] not in action.names)
                )
            case OwnerTo():
                await editor.store()
                await owner.change_owner(self.env, editor.table, action.role)
                table = self.env.overlay.snapshot.table(self.table_id)
                assert table is not None
                self.editor = TableEditor(self.env, table, table)
            case ReplicaIdentity():
                pass
            case RowSecurity():
                if "disable" not in action.kind.lower():
                    raise FeatureNotSupported("row-level security is not supported")
            case DropColumn() | DropConstraint():
                raise AssertionError(action)
            case _:
                assert_never(action)

    async def _add_column(self, action: AddColumn) -> None:
        editor = self.editor
        name = action.definition.name
        if name in editor.table.column_by_name:
            what = f'column "{name}" of relation "{editor.table.name}" already exists'
            if not action.if_not_exists:
                raise DuplicateColumn(what)
            self.env.notice("NOTICE", "42701", f"{what}, skipping")
            return
        definition = analyze_definition(self.env, action.definition, editor.table.name)
        with without_position():
            await self._add_analyzed(definition)

    async def _add_analyzed(self, definition: Definition) -> None:
        editor = self.editor
        column = await add_column(editor, definition)
        if definition.generated is not None:
            set_generated(editor, column.position, definition.generated)
            editor.needs_rewrite = True
        elif column.identity:
            editor.needs_rewrite = True
        elif column.default is not None:
            value = await self.env.missing_value(column)
            if value is None:
                editor.needs_rewrite = True
            else:
                column = editor.change_column(column.position, missing_value=value)
        if column.not_null:
            editor.change_column(column.position, not_null=False)
            editor.set_not_null(column.position)
        for constraint in definition.table_constraints:
            self._add_constraint(AddConstraint(constraint))

    def _add_constraint(self, action: AddConstraint) -> None:
        constraint = action.constraint
        match constraint:
            case CheckConstraint():
                with without_position():
                    add_check(self.editor, constraint, is_new=False)
            case UniqueConstraint():
                add_key(self.editor, constraint)
            case ForeignKeyConstraint():
                add_foreign_key(self.editor, constraint)

    def _alter_type(self, action: AlterColumnType) -> None:
        editor = self.editor
        column = editor.column(action.name)
        table = editor.table
        with without_position():
            new_type, typmod = resolve_type(action.type_name)
        check_column_type(column.name, new_type)
        collation = check_collation(self.env, action.collation, new_type)
        if action.using is not None:
            # A constant gets its value from the conversion, not from the expression.
            with without_position(unless=not isinstance(action.using, StringLiteral)):
                bind_over(
                    self.env,
                    action.using,
                    table.visible_columns,
                    relation=table.name,
                    purpose="using",
                    target=msgspec.structs.replace(column, type_oid=new_type.oid, typmod=typmod),
                )
        elif not can_assign(column.type_oid, new_type.oid):
            shown = format_type(new_type, typmod)
            raise DatatypeMismatch(
                f'column "{column.name}" cannot be cast automatically to type {shown}',
                hint=f'You might need to specify "USING {quote_identifier(column.name)}::{shown}".',
            )
        self._refuse_dependents(column)
        if any(index_uses(table, i, column.position) for i in table.indexes):
            check_indexable(new_type)
        changed = editor.change_column(
            column.position,
            type_oid=new_type.oid,
            typmod=typmod,
            missing_value=b"",
            collation=collation,
        )
        if column.default is not None:
            self._convert_default(column, changed)
        if not self._keeps_values(action, column, changed):
            expression = action.using if action.using is not None else ColumnRef((column.name,))
            editor.convert(column.position, strip_spans(expression))
        else:
            editor.change_column(column.position, missing_value=column.missing_value)

    def _keeps_values(self, action: AlterColumnType, column: Column, changed: Column) -> bool:
        """Tell whether the rows, and the entries of all indexes, stay as they are."""
        using = action.using
        if using is not None and not (
            isinstance(using, ColumnRef) and using.parts == (column.name,)
        ):
            return False
        if not is_relabel(column, changed, is_utc=self.env.is_utc):
            return False
        # An expression over the column may give another value under the new type.
        return column.type_oid == changed.type_oid or not any(
            index_uses(self.editor.table, index, column.position)
            for index in self.editor.table.indexes
            if index.predicate is not None or any(k.expression is not None for k in index.keys)
        )

    def _convert_default(self, old: Column, changed: Column) -> None:
        assert old.default is not None
        try:
            bind_over(
                self.env,
                old.default,
                (),
                relation=self.editor.table.name,
                purpose="default",
                target=changed,
            )
        except DatatypeMismatch:
            raise DatatypeMismatch(
                f'default for column "{old.name}" cannot be cast automatically'
                f" to type {format_type(changed.type, changed.typmod)}"
            ) from None
        if old.sequence_id and changed.type_oid in RANGES:
            sequence = self.env.overlay.snapshot.get(old.sequence_id)
            if isinstance(sequence, Sequence) and sequence.identity:
                self.env.overlay.put(msgspec.structs.replace(sequence, type_oid=changed.type_oid))

    def _refuse_dependents(self, column: Column) -> None:
        table = self.editor.table
        for view in self.env.overlay.snapshot.all(View):
            if (table.id, column.position) in view.depends_on:
                raise FeatureNotSupported(
                    "cannot alter type of a column used by a view or rule",
                    detail=f"rule _RETURN on view {shown_name(self.env, view)}"
                    f' depends on column "{column.name}"',
                )
        for other in table.visible_columns:
            if other.generated is not None and column.name in columns_in(other.generated):
                raise FeatureNotSupported(
                    "cannot alter type of a column used by a generated column",
                    detail=f'Column "{column.name}" is used by generated column "{other.name}".',
                )

    def _set_default(self, action: AlterColumnDefault) -> None:
        editor = self.editor
        column = editor.column(action.name)
        what = f'column "{column.name}" of relation "{editor.table.name}"'
        if column.identity:
            raise SqlSyntaxError(
                f"{what} is an identity column",
                hint=""
                if action.expression is not None
                else "Use ALTER TABLE ... ALTER COLUMN ... DROP IDENTITY instead.",
            )
        if column.generated is not None:
            raise SqlSyntaxError(
                f"{what} is a generated column",
                hint=""
                if action.expression is not None
                else "Use ALTER TABLE ... ALTER COLUMN ... DROP EXPRESSION instead.",
            )
        expression = action.expression
        if expression is None or isinstance(expression, NullLiteral):
            editor.change_column(column.position, default=None)
        else:
            with without_position():
                default = bind_default(editor, column, expression)
            editor.change_column(column.position, default=default)

    def _set_not_null(self, action: AlterColumnNotNull) -> None:
        editor = self.editor
        column = editor.column(action.name)
        if action.not_null:
            editor.set_not_null(column.position)
            return
        table = editor.table
        if column.identity:
            raise SqlSyntaxError(
                f'column "{column.name}" of relation "{table.name}" is an identity column'
            )
        primary = primary_positions(table)
        if primary is not None and column.position in primary[1]:
            raise InvalidTableDefinition(f'column "{column.name}" is in a primary key')
        editor.change_column(column.position, not_null=False)

    async def _add_identity(self, action: AlterColumnAddIdentity) -> None:
        editor = self.editor
        column = editor.column(action.name)
        check_identity_type(column)
        what = f'column "{column.name}" of relation "{editor.table.name}"'
        if not column.not_null:
            raise ObjectNotInPrerequisiteState(
                f"{what} must be declared NOT NULL before identity can be added"
            )
        if column.identity:
            raise ObjectNotInPrerequisiteState(f"{what} is already an identity column")
        if column.default is not None:
            raise ObjectNotInPrerequisiteState(f"{what} already has a default value")
        await add_identity(editor, column, always=action.always, options=action.options)

    async def _set_identity(self, action: AlterColumnSetIdentity) -> None:
        column = self._identity_column(action.name)
        assert column is not None
        if action.always is not None:
            self.editor.change_column(
                column.position, identity="always" if action.always else "by default"
            )
        sequence = self.env.overlay.snapshot.get(column.sequence_id)
        assert isinstance(sequence, Sequence), column
        await change_sequence(self.env, sequence, action.options)

    def _identity_column(self, name: str, *, missing_ok: bool = False) -> Column | None:
        column = self.editor.column(name)
        if column.identity:
            return column
        what = f'column "{name}" of relation "{self.editor.table.name}" is not an identity column'
        if not missing_ok:
            raise ObjectNotInPrerequisiteState(what)
        self.env.notice("NOTICE", "00000", f"{what}, skipping")
        return None

    async def _drop_identity(self, action: AlterColumnDropIdentity) -> None:
        column = self._identity_column(action.name, missing_ok=action.if_exists)
        if column is not None:
            sequence = self.env.overlay.snapshot.get(column.sequence_id)
            assert isinstance(sequence, Sequence), column
            await self.env.lock_table(sequence.id, "access exclusive")
            self.env.overlay.delete(sequence.id)
            await self.env.clear_sequence(sequence.storage_id)
            self.editor.change_column(column.position, identity="", sequence_id=0)

    def _drop_expression(self, action: AlterColumnDropExpression) -> None:
        column = self.editor.column(action.name)
        if column.generated is None:
            what = (
                f'column "{column.name}" of relation "{self.editor.table.name}"'
                " is not a stored generated column"
            )
            if not action.if_exists:
                raise ObjectNotInPrerequisiteState(what)
            self.env.notice("NOTICE", "00000", f"{what}, skipping")
            return
        self.editor.change_column(column.position, generated=None)

    def _set_column_option(self, action: AlterColumnOptions) -> None:
        column = self.editor.column(action.name)
        if action.option.lower() == "statistics":
            target = int(action.value)
            if target < -1:
                raise InvalidParameterValue(f"statistics target {target} is too low")
            self.editor.change_column(column.position, statistics_target=min(target, 10_000))

    def _alter_constraint(self, action: AlterConstraint) -> None:
        table = self.editor.table
        for key in table.foreign_keys:
            if key.name == action.name:
                changed = msgspec.structs.replace(
                    key,
                    deferrable=action.deferrable or action.initially_deferred,
                    initially_deferred=action.initially_deferred,
                )
                keys = tuple(changed if k is key else k for k in table.foreign_keys)
                self.editor.change(foreign_keys=keys)
                return
        what = f'constraint "{action.name}" of relation "{table.name}"'
        if constraint_id(table, action.name) is None:
            raise UndefinedObject(f"{what} does not exist")
        raise WrongObjectType(f"{what} is not a foreign key constraint")

    async def _validate(self, action: ValidateConstraint) -> None:
        table = self.editor.table
        for check in table.checks:
            if check.name == action.name:
                if not check.validated:
                    await self.env.validate_check(table, check)
                    done = msgspec.structs.replace(check, validated=True)
                    checks = tuple(done if c is check else c for c in table.checks)
                    self.editor.change(checks=checks)
                return
        for key in table.foreign_keys:
            if key.name == action.name:
                if not key.validated:
                    await self.env.lock_table(key.referenced_table_id, "row share")
                    await self.env.validate_foreign_key(table, key)
                    valid = msgspec.structs.replace(key, validated=True)
                    keys = tuple(valid if k is key else k for k in table.foreign_keys)
                    self.editor.change(foreign_keys=keys)
                return
        what = f'constraint "{action.name}" of relation "{table.name}"'
        if constraint_id(table, action.name) is None:
            raise UndefinedObject(f"{what} does not exist")
        raise WrongObjectType(f"{what} is not a foreign key or check constraint")

    def _set_options(self, action: SetOptions) -> None:
        options = dict(self.editor.table.options)
        given = dict(check_options("table", action.options))
        if DISTRIBUTE_BY in given and given[DISTRIBUTE_BY] != options.get(DISTRIBUTE_BY):
            raise FeatureNotSupported("distribute_by of an existing table cannot be changed")
        self.editor.change(options=tuple((options | given).items()))


def constraint_id(table: Table, name: str) -> int | None:
    """Return the OID of a table's constraint by name."""
    items: tuple[Check | ForeignKey, ...] = (*table.checks, *table.foreign_keys)
    for item in items:
        if item.name == name:
            return item.id
    for index in table.indexes:
        if index.constraint and index.name == name:
            return index.constraint_id
    if table.primary_name and table.primary_name == name:
        found = table.primary_id + 1
        assert constraint_name(table, found) == name
        return found
    return None


def can_assign(source_oid: int, target_oid: int) -> bool:
    """Tell whether a value of one type may be stored in a column of another."""
    from sql.functions.builtin import REGISTRY  # noqa: PLC0415 - big, needed here only

    if source_oid == target_oid:
        return True
    source, target = type_by_oid(source_oid), type_by_oid(target_oid)
    assert source is not None
    assert target is not None
    if source.element is not None and target.element is not None:
        return can_assign(source.element.oid, target.element.oid)
    cast = REGISTRY.find_cast(source, target)
    if cast is not None:
        return cast.context != "explicit"
    return target.category == "S" or source.name == "unknown"


async def _alter_other(env: DdlEnvironment, statement: AlterTable, tag: str) -> str:
    """Run the few actions that views, sequences and indexes take."""
    found = find_any(env, statement.name)
    assert found is not None
    for action in statement.actions:
        if isinstance(action, OwnerTo) and isinstance(found, (View, Sequence)):
            await owner.change_owner(env, found, action.role)
        elif isinstance(found, View) and isinstance(
            action, (SetOptions, ResetOptions, AlterColumnDefault)
        ):
            await alter_view(env, found.id, action)
        elif isinstance(action, (SetOptions, ResetOptions)) and kind_of(found) == "index":
            _alter_index_options(env, found, action)
        elif isinstance(action, OwnerTo):
            env.notice(
                "WARNING",
                "42809",
                f'cannot change owner of index "{statement.name.name}"',
                hint="Change the ownership of the index's table, instead.",
            )
        else:
            require_table(
                env, statement.name, action=_ACTION_NAMES.get(type(action), "ALTER COLUMN")
            )
    return tag


def _alter_index_options(
    env: DdlEnvironment, found: object, action: SetOptions | ResetOptions
) -> None:
    from nodedb.catalog.derived import IndexPlace  # noqa: PLC0415 - one branch

    assert isinstance(found, IndexPlace)
    require_owner(env, found.table)
    if found.definition is None:
        return
    options = dict(found.definition.options)
    if isinstance(action, SetOptions):
        options |= dict(check_options("index", action.options))
    else:
        options = {k: v for k, v in options.items() if k not in action.names}
    changed = msgspec.structs.replace(found.definition, options=tuple(options.items()))
    indexes = tuple(changed if i is found.definition else i for i in found.table.indexes)
    env.overlay.put(msgspec.structs.replace(found.table, indexes=indexes))
