"""pg_class and what hangs on it: attributes, indexes, constraints, dependencies.

Numbers that nodedb does not store are derived from those it does: a default's OID from table and
column. Source: PostgreSQL docs, "System Catalogs".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodedb.catalog.ddl.names import index_column_names
from nodedb.catalog.ddl.rewrite import columns_in, regclass, relations_in, transformed
from nodedb.catalog.virtual.registry import CatalogView, Record, system_table
from nodedb.catalog.virtual.system_columns import system_tables
from sql.ast.column_names import with_column_names
from sql.ast.deparse import deparse_expression, deparse_query
from sql.ast.deparse_names import quote_identifier
from sql.ast.query import Expression, StringLiteral, TypeCast
from sql.catalog.descriptor import (
    INFORMATION_SCHEMA_ID,
    PG_CATALOG_ID,
    SUPERUSER_ID,
    Check,
    Column,
    ForeignKey,
    Index,
    IndexKey,
    Relation,
    Sequence,
    Table,
    View,
)
from sql.types.array import ArrayValue
from sql.types.catalog import BPCHAR, NAME, NUMERIC, TEXT, VARCHAR, type_by_oid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sql.ast.node import Node
    from sql.types.base import SqlType

PG_CLASS: Final = 1259
PG_TYPE: Final = 1247
PG_NAMESPACE: Final = 2615
PG_CONSTRAINT: Final = 2606
PG_ATTRDEF: Final = 2604
PG_DATABASE: Final = 1262
PG_AUTHID: Final = 1260
HEAP: Final = 2
METHODS: Final = {"btree": 403, "hash": 405}
DEFAULT_COLLATION: Final = 100
C_COLLATION: Final = 950
_ACTIONS: Final = {
    "no action": "a",
    "restrict": "r",
    "cascade": "c",
    "set null": "n",
    "set default": "d",
}
_COLLATION_OIDS: Final = {"C": 950, "POSIX": 951, "ucs_basic": 12342}
_SYSTEM_COLUMNS: Final = (
    ("tableoid", 26, -6),
    ("cmax", 29, -5),
    ("xmax", 28, -4),
    ("cmin", 29, -3),
    ("xmin", 28, -2),
    ("ctid", 27, -1),
)


def attribute_numbers(table: Table, positions: Iterable[int]) -> tuple[int, ...]:
    """Return pg_attribute.attnum of row positions."""
    return tuple(table.columns[position].number for position in positions)


def default_oid(table_id: int, number: int) -> int:
    """Return a made-up OID of a column default, above what the catalog ever gives out."""
    return 0x40000000 + (table_id * 1601 + number) % 0x3FFFFFFF


def rule_oid(view_id: int) -> int:
    """Return a made-up OID of a view's _RETURN rule."""
    return 0x80000000 + view_id % 0x7FFFFFFF


def collation_of(sql_type: SqlType, name: str = "") -> int:
    """Return pg_attribute.attcollation."""
    if name:
        return _COLLATION_OIDS.get(name, DEFAULT_COLLATION)
    base = sql_type.element or sql_type
    if base is NAME:
        return C_COLLATION
    return DEFAULT_COLLATION if base in (TEXT, VARCHAR, BPCHAR) else 0


def expression_text(view: CatalogView, expression: Expression) -> str:
    """Return a stored expression as SQL, sequences by name."""

    def named(node: Node) -> Node:
        if not isinstance(node, TypeCast) or node.type_name.name != "regclass":
            return node
        operand = node.operand
        if not isinstance(operand, StringLiteral) or not operand.value.isdecimal():
            return node
        found = view.snapshot.get(int(operand.value))
        if not isinstance(found, (Table, View, Sequence)):
            return node
        name = quote_identifier(found.name)
        schema = view.schema_names[found.schema_id]
        if schema not in ("public", "pg_catalog"):
            name = f"{quote_identifier(schema)}.{name}"
        return TypeCast(StringLiteral(name), regclass(0).type_name)

    return deparse_expression(transformed(expression, named))


def key_type(table: Table, key: IndexKey) -> SqlType:
    """Return the type of an index key."""
    if key.expression is None:
        return table.columns[key.position].type
    found = type_by_oid(key.type_oid)
    assert found is not None, key
    return found


def all_indexes(table: Table) -> Iterator[Index]:
    """Yield a table's indexes, the clustering primary key first, in the shape of an Index."""
    if table.primary_name:
        yield Index(
            id=table.primary_id,
            name=table.primary_name,
            owner=table.owner,
            comment=table.primary_comment,
            index_id=1,
            keys=tuple(IndexKey(position=position) for position in table.clustering_key),
            unique=True,
            primary=True,
            include=table.primary_include,
            constraint=True,
            constraint_id=table.primary_id + 1,
        )
    yield from table.indexes


def _class_row(oid: int, name: str, schema_id: int, owner: int, kind: str, width: int) -> Record:
    return {
        "oid": oid,
        "relname": name,
        "relnamespace": schema_id,
        "reltype": 0,
        "reloftype": 0,
        "relowner": owner,
        "relam": 0,
        "relfilenode": oid if kind in "riS" else 0,
        "reltablespace": 0,
        "relpages": 0,
        "reltuples": -1.0 if kind == "r" else 0.0,
        "relallvisible": 0,
        "reltoastrelid": 0,
        "relhasindex": False,
        "relisshared": False,
        "relpersistence": "p",
        "relkind": kind,
        "relnatts": width,
        "relchecks": 0,
        "relhasrules": kind == "v",
        "relhastriggers": False,
        "relhassubclass": False,
        "relrowsecurity": False,
        "relforcerowsecurity": False,
        "relispopulated": True,
        "relreplident": "d" if kind == "r" else "n",
        "relispartition": False,
        "relrewrite": 0,
        "relfrozenxid": 0,
        "relminmxid": 0,
    }


def view_text(item: View) -> str:
    """Return a view's query as SQL, with the names of the view's columns."""
    names = tuple(column.name for column in item.columns)
    return deparse_query(with_column_names(item.query, names), pretty=True) + ";"


def _reloptions(options: tuple[tuple[str, str], ...]) -> ArrayValue | None:
    return ArrayValue(tuple(f"{k}={v}" for k, v in options)) if options else None


@system_table("pg_class")
def pg_class(view: CatalogView) -> Iterator[Record]:
    """Tables, their indexes, views, sequences, and the system tables themselves."""
    for system in system_tables():
        kind = "v" if system.is_view else "r"
        width = len(system.columns)
        yield {
            **_class_row(system.oid, system.name, system.schema_id, SUPERUSER_ID, kind, width),
            "relam": 0 if system.is_view else HEAP,
            "relacl": ArrayValue((f"=r/{view.role_name(SUPERUSER_ID)}",)),
        }
    for table in view.tables:
        numbers = sum(1 for column in table.columns if not column.hidden)
        statistics = table.statistics
        yield {
            **_class_row(table.id, table.name, table.schema_id, table.owner, "r", numbers),
            "relam": HEAP,
            "relfilenode": table.storage_id,
            "relhasindex": bool(table.primary_name or table.indexes),
            "relchecks": len(table.checks),
            "relhastriggers": bool(table.foreign_keys or table.referenced_by),
            "relpersistence": "t" if table.temporary_session else "p",
            "reltuples": float(statistics.rows) if statistics is not None else -1.0,
            "relacl": view.acl(table.acl),
            "reloptions": _reloptions(table.options),
        }
        for index in all_indexes(table):
            width = len(index.keys) + len(index.include)
            yield {
                **_class_row(index.id, index.name, table.schema_id, table.owner, "i", width),
                "relam": METHODS.get(index.method, 403),
                "relpersistence": "t" if table.temporary_session else "p",
                "reloptions": _reloptions(index.options),
            }
    for item in view.views:
        yield {
            **_class_row(item.id, item.name, item.schema_id, item.owner, "v", len(item.columns)),
            "relacl": view.acl(item.acl),
            "reloptions": _reloptions(item.options),
            "relpersistence": "t" if item.temporary_session else "p",
        }
    for sequence in view.sequences:
        yield {
            **_class_row(sequence.id, sequence.name, sequence.schema_id, sequence.owner, "S", 3),
            "relacl": view.acl(sequence.acl),
            "reltuples": 1.0,
            "relpages": 1,
            "relpersistence": "t" if sequence.temporary_session else "p",
        }


def _alignment(sql_type: SqlType) -> str:
    return {1: "c", 2: "s", 4: "i", 8: "d", 12: "d", 16: "d"}.get(sql_type.length, "i")


def storage_of(sql_type: SqlType) -> str:
    """Return pg_attribute.attstorage."""
    if sql_type.length >= 0:
        return "p"
    return "m" if sql_type is NUMERIC else "x"


def _attribute(relation_id: int, name: str, sql_type: SqlType, number: int) -> Record:
    by_value = sql_type.length in (1, 2, 4, 8)
    return {
        "attrelid": relation_id,
        "attname": name,
        "atttypid": sql_type.oid,
        "attstattarget": -1,
        "attlen": sql_type.length,
        "attnum": number,
        "attndims": int(sql_type.is_array),
        "attcacheoff": -1,
        "atttypmod": -1,
        "attbyval": by_value,
        "attalign": _alignment(sql_type),
        "attstorage": storage_of(sql_type),
        "attcompression": "",
        "attnotnull": False,
        "atthasdef": False,
        "atthasmissing": False,
        "attidentity": "",
        "attgenerated": "",
        "attisdropped": False,
        "attislocal": True,
        "attinhcount": 0,
        "attcollation": collation_of(sql_type),
    }


def _column(view: CatalogView, table: Table, column: Column) -> Record:
    result = {
        **_attribute(table.id, column.name, column.type, column.number),
        "attstattarget": column.statistics_target,
        "atttypmod": column.typmod,
        "attnotnull": column.not_null,
        "atthasdef": column.default is not None or column.generated is not None,
        "atthasmissing": bool(column.missing_value),
        "attidentity": column.identity[:1] and ("a" if column.identity == "always" else "d"),
        "attgenerated": "s" if column.generated is not None else "",
        "attcollation": collation_of(column.type, column.collation),
        "attacl": view.acl(column.acl),
    }
    if column.dropped:
        result.update(atttypid=0, attisdropped=True)
    return result


@system_table("pg_attribute")
def pg_attribute(view: CatalogView) -> Iterator[Record]:
    """Columns of everything in pg_class."""
    for system in system_tables():
        for number, listed in enumerate(system.columns, 1):
            shown = _attribute(system.oid, listed.name, listed.type, number)
            yield {**shown, "atttypmod": listed.typmod}
    for table in view.tables:
        for name, type_oid, number in _SYSTEM_COLUMNS:
            sql_type = type_by_oid(type_oid)
            assert sql_type is not None
            yield {**_attribute(table.id, name, sql_type, number), "attnotnull": True}
        for column in table.columns:
            if not column.hidden:
                yield _column(view, table, column)
        for index in all_indexes(table):
            yield from _index_attributes(table, index)
    for item in view.views:
        for number, out in enumerate(item.columns, 1):
            sql_type = type_by_oid(out.type_oid)
            assert sql_type is not None, out
            yield {
                **_attribute(item.id, out.name, sql_type, number),
                "atttypmod": out.typmod,
                "atthasdef": out.default is not None,
            }
    for sequence in view.sequences:
        for number, (name, type_oid) in enumerate(
            (("last_value", 20), ("log_cnt", 20), ("is_called", 16)), 1
        ):
            sql_type = type_by_oid(type_oid)
            assert sql_type is not None
            yield {**_attribute(sequence.id, name, sql_type, number), "attnotnull": True}


def _index_attributes(table: Table, index: Index) -> Iterator[Record]:
    parts: list[str | Expression] = [
        key.expression if key.expression is not None else table.columns[key.position].name
        for key in index.keys
    ]
    parts.extend(table.columns[position].name for position in index.include)
    types = [key_type(table, key) for key in index.keys]
    types.extend(table.columns[position].type for position in index.include)
    typmods = [-1 if key.position < 0 else table.columns[key.position].typmod for key in index.keys]
    typmods.extend(table.columns[position].typmod for position in index.include)
    columns = zip(index_column_names(parts), types, typmods, strict=True)
    for number, (name, sql_type, typmod) in enumerate(columns, 1):
        yield {**_attribute(index.id, name, sql_type, number), "atttypmod": typmod}


@system_table("pg_attrdef")
def pg_attrdef(view: CatalogView) -> Iterator[Record]:
    """Defaults and generation expressions.

    ``adbin`` is their SQL text with regclass constants by OID; pg_get_expr names those.
    """
    for table in view.tables:
        for column in table.visible_columns:
            expression = column.generated if column.generated is not None else column.default
            if expression is not None:
                yield _default_row(table.id, column.number, expression)
    for item in view.views:
        for number, out in enumerate(item.columns, 1):
            if out.default is not None:
                yield _default_row(item.id, number, out.default)


def _default_row(relation_id: int, number: int, expression: Expression) -> Record:
    return {
        "oid": default_oid(relation_id, number),
        "adrelid": relation_id,
        "adnum": number,
        "adbin": deparse_expression(expression),
    }


def _operator_class(sql_type: SqlType, method: str) -> int:
    from nodedb.catalog.virtual.static import default_operator_class  # noqa: PLC0415 - lazy table

    return default_operator_class(sql_type, METHODS.get(method, 403))


@system_table("pg_index")
def pg_index(view: CatalogView) -> Iterator[Record]:
    """Indexes."""
    for table in view.tables:
        for index in all_indexes(table):
            positions = [key.position for key in index.keys]
            numbers = tuple(
                table.columns[p].number if p >= 0 else 0 for p in (*positions, *index.include)
            )
            expressions = [
                deparse_expression(key.expression)
                for key in index.keys
                if key.expression is not None
            ]
            options = tuple(key.descending + 2 * key.nulls_first for key in index.keys)
            yield {
                "indexrelid": index.id,
                "indrelid": table.id,
                "indnatts": len(numbers),
                "indnkeyatts": len(index.keys),
                "indisunique": index.unique,
                "indnullsnotdistinct": index.nulls_not_distinct,
                "indisprimary": index.primary,
                "indisexclusion": False,
                "indimmediate": not index.deferrable,
                "indisclustered": False,
                "indisvalid": index.state in ("public", "young"),
                "indcheckxmin": False,
                "indisready": index.state != "delete_only",
                "indislive": True,
                "indisreplident": False,
                "indkey": vector(numbers),
                "indcollation": vector(
                    tuple(collation_of(key_type(table, key)) for key in index.keys)
                ),
                "indclass": vector(
                    tuple(_operator_class(key_type(table, key), index.method) for key in index.keys)
                ),
                "indoption": vector(options),
                "indexprs": ", ".join(expressions) if expressions else None,
                "indpred": deparse_expression(index.predicate)
                if index.predicate is not None
                else None,
            }


def vector(numbers: tuple[int, ...]) -> ArrayValue:
    """Return an int2vector or oidvector: subscripts from 0."""
    return ArrayValue(numbers, (len(numbers),), (0,))


@system_table("pg_constraint")
def pg_constraint(view: CatalogView) -> Iterator[Record]:
    """Check, primary key, unique and foreign key constraints."""
    for table in view.tables:
        for check in table.checks:
            names = columns_in(check.expression)
            numbers = tuple(
                table.column_by_name[n].number for n in names if n in table.column_by_name
            )
            yield {
                **_constraint(table, check.id, check.name, "c"),
                "convalidated": check.validated,
                "connoinherit": check.no_inherit,
                "conkey": ArrayValue(numbers),
                "conbin": deparse_expression(check.expression),
            }
        for index in all_indexes(table):
            if index.constraint:
                keys = attribute_numbers(table, (key.position for key in index.keys))
                kind = "p" if index.primary else "u"
                yield {
                    **_constraint(table, index.constraint_id, index.name, kind),
                    "condeferrable": index.deferrable,
                    "condeferred": index.initially_deferred,
                    "conindid": index.id,
                    "conkey": ArrayValue(keys),
                    "connoinherit": True,
                }
        for key in table.foreign_keys:
            yield _foreign_key(view, table, key)


def _constraint(table: Table, oid: int, name: str, kind: str) -> Record:
    return {
        "oid": oid,
        "conname": name,
        "connamespace": table.schema_id,
        "contype": kind,
        "condeferrable": False,
        "condeferred": False,
        "convalidated": True,
        "conrelid": table.id,
        "contypid": 0,
        "conindid": 0,
        "conparentid": 0,
        "confrelid": 0,
        "confupdtype": " ",
        "confdeltype": " ",
        "confmatchtype": " ",
        "conislocal": True,
        "coninhcount": 0,
        "connoinherit": False,
    }


def _foreign_key(view: CatalogView, table: Table, key: ForeignKey) -> Record:
    target = view.snapshot.table(key.referenced_table_id)
    assert target is not None, key
    index = next(i for i in all_indexes(target) if i.index_id == key.referenced_index_id)
    return {
        **_constraint(table, key.id, key.name, "f"),
        "condeferrable": key.deferrable,
        "condeferred": key.initially_deferred,
        "convalidated": key.validated,
        "conindid": index.id,
        "confrelid": target.id,
        "confupdtype": _ACTIONS[key.on_update],
        "confdeltype": _ACTIONS[key.on_delete],
        "confmatchtype": "f" if key.match_full else "s",
        "connoinherit": True,
        "conkey": ArrayValue(attribute_numbers(table, key.columns)),
        "confkey": ArrayValue(attribute_numbers(target, key.referenced_columns)),
        "confdelsetcols": ArrayValue(attribute_numbers(table, key.on_delete_columns))
        if key.on_delete_columns
        else None,
    }


@system_table("pg_namespace")
def pg_namespace(view: CatalogView) -> Iterator[Record]:
    """Schemas, with the built-in ones."""
    owner = view.role_name(SUPERUSER_ID)
    public = ArrayValue((f"{owner}=UC/{owner}", f"=U/{owner}"))
    yield {"oid": 99, "nspname": "pg_toast", "nspowner": SUPERUSER_ID}
    for oid, name in ((PG_CATALOG_ID, "pg_catalog"), (INFORMATION_SCHEMA_ID, "information_schema")):
        yield {"oid": oid, "nspname": name, "nspowner": SUPERUSER_ID, "nspacl": public}
    for schema in view.schemas:
        yield {
            "oid": schema.id,
            "nspname": schema.name,
            "nspowner": schema.owner,
            "nspacl": view.acl(schema.acl),
        }


@system_table("pg_sequence")
def pg_sequence(view: CatalogView) -> Iterator[Record]:
    """Sequences' options."""
    for sequence in view.sequences:
        yield {
            "seqrelid": sequence.id,
            "seqtypid": sequence.type_oid,
            "seqstart": sequence.start,
            "seqincrement": sequence.increment,
            "seqmax": sequence.max_value,
            "seqmin": sequence.min_value,
            "seqcache": sequence.cache,
            "seqcycle": sequence.cycle,
        }


@system_table("pg_description")
def pg_description(view: CatalogView) -> Iterator[Record]:
    """Comments on objects of the database."""

    def row(oid: int, class_id: int, text: str, sub: int = 0) -> Record:
        return {"objoid": oid, "classoid": class_id, "objsubid": sub, "description": text}

    yield row(PG_CATALOG_ID, PG_NAMESPACE, "system catalog schema")
    for schema in view.schemas:
        if schema.comment:
            yield row(schema.id, PG_NAMESPACE, schema.comment)
    for relation in (*view.tables, *view.views, *view.sequences):
        if relation.comment:
            yield row(relation.id, PG_CLASS, relation.comment)
    for item in view.views:
        for number, out in enumerate(item.columns, 1):
            if out.comment:
                yield row(item.id, PG_CLASS, out.comment, number)
    for table in view.tables:
        for column in table.visible_columns:
            if column.comment:
                yield row(table.id, PG_CLASS, column.comment, column.number)
        for index in all_indexes(table):
            if index.comment:
                yield row(index.id, PG_CLASS, index.comment)
            if index.constraint_comment:
                yield row(index.constraint_id, PG_CONSTRAINT, index.constraint_comment)
        parts: tuple[Check | ForeignKey, ...] = (*table.checks, *table.foreign_keys)
        for part in parts:
            if part.comment:
                yield row(part.id, PG_CONSTRAINT, part.comment)


def _depend(
    class_id: int, oid: int, sub: int, reference: tuple[int, int, int], kind: str
) -> Record:
    return {
        "classid": class_id,
        "objid": oid,
        "objsubid": sub,
        "refclassid": reference[0],
        "refobjid": reference[1],
        "refobjsubid": reference[2],
        "deptype": kind,
    }


@system_table("pg_depend")
def pg_depend(view: CatalogView) -> Iterator[Record]:
    """Dependencies between objects of the database."""
    everything: tuple[Relation, ...] = (*view.tables, *view.views, *view.sequences)
    for relation in everything:
        schema = (PG_NAMESPACE, relation.schema_id, 0)
        yield _depend(PG_CLASS, relation.id, 0, schema, "n")
    for sequence in view.sequences:
        if sequence.owned_by is not None:
            table = view.snapshot.table(sequence.owned_by[0])
            assert table is not None
            number = table.columns[sequence.owned_by[1]].number
            kind = "i" if sequence.identity else "a"
            yield _depend(PG_CLASS, sequence.id, 0, (PG_CLASS, table.id, number), kind)
    for table in view.tables:
        yield from _table_depends(table)
    for item in view.views:
        rule = rule_oid(item.id)
        yield _depend(2618, rule, 0, (PG_CLASS, item.id, 0), "i")
        for relation_id, position in item.depends_on:
            table = view.snapshot.table(relation_id)
            number = 0
            if position >= 0:
                number = table.columns[position].number if table is not None else position + 1
            yield _depend(2618, rule, 0, (PG_CLASS, relation_id, number), "n")


def _table_depends(table: Table) -> Iterator[Record]:
    for column in table.visible_columns:
        expression = column.generated if column.generated is not None else column.default
        if expression is None:
            continue
        oid = default_oid(table.id, column.number)
        yield _depend(PG_ATTRDEF, oid, 0, (PG_CLASS, table.id, column.number), "a")
        for relation_id in sorted(relations_in(expression)):
            yield _depend(PG_ATTRDEF, oid, 0, (PG_CLASS, relation_id, 0), "n")
    for index in all_indexes(table):
        if index.constraint:
            reference = (PG_CONSTRAINT, index.constraint_id, 0)
            yield _depend(PG_CLASS, index.id, 0, reference, "i")
            for number in attribute_numbers(table, (key.position for key in index.keys)):
                place = (PG_CLASS, table.id, number)
                yield _depend(PG_CONSTRAINT, index.constraint_id, 0, place, "a")
        else:
            positions = [key.position for key in index.keys if key.position >= 0]
            for number in attribute_numbers(table, positions):
                yield _depend(PG_CLASS, index.id, 0, (PG_CLASS, table.id, number), "a")
    for check in table.checks:
        for name in columns_in(check.expression):
            number = table.column_by_name[name].number if name in table.column_by_name else 0
            yield _depend(PG_CONSTRAINT, check.id, 0, (PG_CLASS, table.id, number), "a")
    for key in table.foreign_keys:
        for number in attribute_numbers(table, key.columns):
            yield _depend(PG_CONSTRAINT, key.id, 0, (PG_CLASS, table.id, number), "a")
        yield _depend(PG_CONSTRAINT, key.id, 0, (PG_CLASS, key.referenced_table_id, 0), "n")


@system_table("pg_rewrite")
def pg_rewrite(view: CatalogView) -> Iterator[Record]:
    """List the _RETURN rules of views."""
    for item in view.views:
        yield {
            "oid": rule_oid(item.id),
            "rulename": "_RETURN",
            "ev_class": item.id,
            "ev_type": "1",
            "ev_enabled": "O",
            "is_instead": True,
            "ev_qual": "<>",
            "ev_action": "<>",
        }


@system_table("pg_init_privs")
def pg_init_privs(view: CatalogView) -> Iterator[Record]:
    """Privileges that the system's own objects have from the start: pg_dump leaves those out."""
    owner = view.role_name(SUPERUSER_ID)
    for oid in (PG_CATALOG_ID, INFORMATION_SCHEMA_ID):
        lists = (f"{owner}=UC/{owner}", f"=U/{owner}")
        yield _initial(oid, PG_NAMESPACE, lists)
    for system in system_tables():
        yield _initial(system.oid, PG_CLASS, (f"=r/{owner}",))


def _initial(oid: int, class_id: int, items: tuple[str, ...]) -> Record:
    return {
        "objoid": oid,
        "classoid": class_id,
        "objsubid": 0,
        "privtype": "i",
        "initprivs": ArrayValue(items),
    }
