r"""Storage parameters in WITH (...): which exist, their ranges, and nodedb's own ``distribute_by``.

PostgreSQL's parameters are checked and kept, so that dumps restore and \\d+ shows them; none
changes how rows are kept. Source: PostgreSQL docs, "CREATE TABLE" (Storage Parameters), "CREATE
INDEX", "CREATE VIEW".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodedb.catalog.ddl.objects import split_name
from sql.errors import InvalidParameterValue, InvalidTableDefinition, UndefinedColumn

if TYPE_CHECKING:
    from sql.ast.ddl import OptionValue, StorageOption
    from sql.catalog.descriptor import Table

DISTRIBUTE_BY: Final = "distribute_by"
CHECK_OPTION: Final = "check_option"
_INTEGERS: Final = {
    "table": {
        "fillfactor": (10, 100),
        "parallel_workers": (0, 1024),
        "toast_tuple_target": (128, 8160),
        "autovacuum_vacuum_threshold": (0, 2147483647),
        "autovacuum_vacuum_insert_threshold": (-1, 2147483647),
        "autovacuum_analyze_threshold": (0, 2147483647),
        "autovacuum_vacuum_cost_limit": (1, 10000),
        "autovacuum_freeze_min_age": (0, 1000000000),
        "autovacuum_freeze_max_age": (100000, 2000000000),
        "autovacuum_freeze_table_age": (0, 2000000000),
        "autovacuum_multixact_freeze_min_age": (0, 1000000000),
        "autovacuum_multixact_freeze_max_age": (10000, 2000000000),
        "autovacuum_multixact_freeze_table_age": (0, 2000000000),
        "log_autovacuum_min_duration": (-1, 2147483647),
    },
    "index": {"fillfactor": (10, 100)},
    "view": {},
}
_OTHERS: Final = {
    "table": {
        "autovacuum_enabled",
        "autovacuum_vacuum_scale_factor",
        "autovacuum_vacuum_insert_scale_factor",
        "autovacuum_analyze_scale_factor",
        "autovacuum_vacuum_cost_delay",
        "vacuum_index_cleanup",
        "vacuum_truncate",
        "user_catalog_table",
        DISTRIBUTE_BY,
    },
    "index": {"deduplicate_items", "global"},
    "view": {"security_barrier", "security_invoker", CHECK_OPTION},
}


def option_text(value: OptionValue) -> str:
    """Return an option's value as pg_class.reloptions has it."""
    if value is None or value is True:
        return "true"
    return "false" if value is False else str(value)


def check_options(kind: str, options: tuple[StorageOption, ...]) -> tuple[tuple[str, str], ...]:
    """Return options as (name, text) pairs.

    InvalidParameterValue (22023) for unknown or bad ones.
    """
    result: dict[str, str] = {}
    for option in options:
        name = option.name.removeprefix("toast.")
        text = option_text(option.value)
        if name == "oids" and text in ("false", "off", "0"):
            continue
        bounds = _INTEGERS[kind].get(name)
        if bounds is not None:
            _check_bounds(name, text, bounds)
        elif name not in _OTHERS[kind]:
            raise InvalidParameterValue(f'unrecognized parameter "{name}"')
        elif name == CHECK_OPTION and text not in ("local", "cascaded"):
            raise InvalidParameterValue(
                f'invalid value for enum option "{name}": {text}',
                detail='Valid values are "local" and "cascaded".',
            )
        if option.name in result:
            raise InvalidParameterValue(f'parameter "{name}" specified more than once')
        result[option.name] = text
    return tuple(result.items())


def _check_bounds(name: str, text: str, bounds: tuple[int, int]) -> None:
    low, high = bounds
    try:
        value = int(text)
    except ValueError:
        raise InvalidParameterValue(f'invalid value for integer option "{name}": {text}') from None
    if not low <= value <= high:
        raise InvalidParameterValue(
            f'value {text} out of bounds for option "{name}"',
            detail=f'Valid values are between "{low}" and "{high}".',
        )


def distribution(table: Table) -> tuple[int, ...]:
    """Return the row positions of WITH (distribute_by = 'a, b'), () when not given.

    They must be a prefix of the primary key: InvalidTableDefinition (42P16) otherwise.
    """
    text = dict(table.options).get(DISTRIBUTE_BY)
    if text is None:
        return ()
    positions: list[int] = []
    for part in text.split(","):
        name = split_name(part.strip())[-1]
        column = table.column_by_name.get(name)
        if column is None:
            raise UndefinedColumn(f'column "{name}" named in distribute_by does not exist')
        positions.append(column.position)
    if not table.primary_name or table.clustering_key[: len(positions)] != tuple(positions):
        raise InvalidTableDefinition(
            "distribute_by must name the leading columns of the primary key",
            detail=f'Table "{table.name}" has no such primary key.',
        )
    return tuple(positions)
