"""Generator (c): statements by grammar, typed, over three small tables.

Types are short names: int, big, num, flt, text, bool, date, ts. Every expression is made for a type, so that most
statements are accepted; a few deliberate slips test refusals. What PostgreSQL leaves open is avoided: LIMIT comes with
an ORDER BY over every column, aggregates that depend on order have one, sums over float8 are not made.
"""

from random import Random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

SETUP = """
drop table if exists t3; drop table if exists t2; drop table if exists t1;
create table t1 (id int primary key, a int, b text, c numeric(10,2), d date, e boolean, f float8);
create table t2 (id int primary key, t1_id int, x bigint, y text not null default 'none', z timestamp);
create table t3 (k text primary key, v int check (v > -1000), w int unique);
create index on t1 (a); create index on t2 (t1_id, x);
insert into t1 values (1, 10, 'ab', 1.50, '2024-01-31', true, 0.5), (2, null, 'AB', null, null, false, -2),
 (3, -7, '', 0.00, '1999-12-31', null, 1e10), (4, 10, null, -3.25, '2024-02-29', true, null),
 (5, 2147483647, 'a%_b', 99999999.99, '2000-01-01', false, 0), (6, 0, 'zoë', 7.10, '2024-01-31', null, 1.25),
 (7, 3, '42', 42.00, '1970-01-01', true, 3), (8, null, null, null, null, null, null);
insert into t2 values (1, 1, 100, 'one', '2024-01-31 10:00:00'), (2, 1, -5, 'two', null),
 (3, 3, 9223372036854775807, '', '1999-12-31 23:59:59.5'), (4, null, null, 'ab', '2024-02-29 00:00:00'),
 (5, 9, 0, 'AB', '2001-02-03 04:05:06.789'), (6, 7, 3, 'x y z', null);
insert into t3 values ('ab', 1, 10), ('one', -5, null), ('', 0, 20), ('zz', null, null);
"""

TABLES: dict[str, dict[str, str]] = {
    "t1": {"id": "int", "a": "int", "b": "text", "c": "num", "d": "date", "e": "bool", "f": "flt"},
    "t2": {"id": "int", "t1_id": "int", "x": "big", "y": "text", "z": "ts"},
    "t3": {"k": "text", "v": "int", "w": "int"},
}
SQL_NAMES = {
    "int": "int", "big": "bigint", "num": "numeric", "flt": "float8", "text": "text", "bool": "boolean",
    "date": "date", "ts": "timestamp",
}  # fmt: skip
TYPES = tuple(SQL_NAMES)
LITERALS = {
    "int": ("0", "1", "-1", "2", "3", "7", "10", "42", "2147483647", "-2147483648"),
    "big": ("0::bigint", "5::bigint", "-100::bigint", "9223372036854775807", "3000000000"),
    "num": (
        "0.0",
        "1.5",
        "-3.25",
        "100.00",
        "0.001",
        "1e3",
        "12345678901234567890.5",
        "'NaN'::numeric",
    ),
    "flt": ("0::float8", "1.5::float8", "-2.5::float8", "1e10::float8", "'Infinity'::float8"),
    "text": (
        "''",
        "'a'",
        "'ab'",
        "'AB'",
        "'42'",
        "'a%'",
        "'x y'",
        "'ë'",
        "E'a\\\\nb'",
        "'2024-01-31'",
    ),
    "bool": ("true", "false"),
    "date": ("date '2024-01-31'", "date '2000-02-29'", "date '1999-12-31'"),
    "ts": ("timestamp '2024-01-31 10:00'", "timestamp '1999-12-31 23:59:59.5'"),
}
# Arguments, in the grammar's types, by result type; {0}, {1} stand for them.
CALLS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "int": (
        ("({0} + {1})", ("int", "int")), ("({0} - {1})", ("int", "int")), ("({0} * {1})", ("int", "int")),
        ("({0} / nullif({1}, 0))", ("int", "int")), ("({0} % nullif({1}, 0))", ("int", "int")),
        ("abs({0})", ("int",)), ("length({0})", ("text",)), ("strpos({0}, {1})", ("text", "text")),
        ("(- {0})", ("int",)), ("ascii({0})", ("text",)), ("({0} - {1})", ("date", "date")),
        ("char_length({0})", ("text",)), ("octet_length({0})", ("text",)), ("({0} & {1})", ("int", "int")),
        ("({0} | {1})", ("int", "int")), ("({0} # {1})", ("int", "int")), ("sign({0})::int", ("int",)),
        ("position({0} in {1})", ("text", "text")), ("cast({0} as int)", ("bool",)),
        ("extract(year from {0})::int", ("date",)), ("gcd({0}, {1})", ("int", "int")),
    ),
    "big": (
        ("({0} + {1})", ("big", "int")), ("({0} - {1})", ("int", "big")), ("{0}::bigint", ("int",)),
        ("({0} * {1})", ("big", "int")), ("abs({0})", ("big",)), ("mod({0}, nullif({1}, 0))", ("big", "int")),
    ),
    "num": (
        ("({0} + {1})", ("num", "int")), ("({0} - {1})", ("num", "num")), ("({0} * {1})", ("num", "num")),
        ("({0} / nullif({1}, 0))", ("num", "int")), ("round({0}, 1)", ("num",)), ("trunc({0})", ("num",)),
        ("ceil({0})", ("num",)), ("floor({0})", ("num",)), ("abs({0})", ("num",)), ("{0}::numeric", ("int",)),
        ("{0}::numeric(12,3)", ("num",)), ("sign({0})", ("num",)), ("mod({0}, nullif({1}, 0))", ("num", "num")),
        ("extract(epoch from {0})", ("ts",)), ("extract(day from {0})", ("date",)), ("{0}::numeric", ("big",)),
        ("power({0}, 2)", ("num",)), ("sqrt(abs({0}))", ("num",)), ("div({0}, nullif({1}, 0))", ("num", "num")),
    ),
    "flt": (
        ("({0} + {1})", ("flt", "int")), ("({0} * {1})", ("flt", "flt")), ("{0}::float8", ("int",)),
        ("floor({0})", ("flt",)), ("abs({0})", ("flt",)), ("sqrt(abs({0}))", ("flt",)), ("round({0})", ("flt",)),
        ("{0}::float8", ("num",)), ("date_part('month', {0})", ("ts",)),
    ),
    "text": (
        ("({0} || {1})", ("text", "text")), ("upper({0})", ("text",)), ("lower({0})", ("text",)),
        ("substring({0} from {1} for 3)", ("text", "int")), ("left({0}, 2)", ("text",)), ("right({0}, 2)", ("text",)),
        ("trim({0})", ("text",)), ("replace({0}, {1}, 'q')", ("text", "text")), ("reverse({0})", ("text",)),
        ("lpad({0}, 5, {1})", ("text", "text")), ("{0}::text", ("int",)), ("{0}::text", ("num",)),
        ("{0}::text", ("bool",)), ("{0}::text", ("date",)), ("{0}::text", ("ts",)), ("concat({0}, {1})", ("text", "int")),
        ("split_part({0}, ' ', 1)", ("text",)), ("initcap({0})", ("text",)), ("md5({0})", ("text",)),
        ("({0} || {1})", ("text", "int")), ("{0}::varchar(3)", ("text",)), ("to_char({0}, 'YYYY-MM-DD')", ("date",)),
        ("quote_literal({0})", ("text",)), ("translate({0}, 'ab', 'xy')", ("text",)), ("{0}::text", ("flt",)),
        ("regexp_replace({0}, '[a-c]+', '#')", ("text",)), ("to_char({0}, 'FM999990.00')", ("num",)),
        ("overlay({0} placing 'Q' from 2)", ("text",)), ("format('%s-%s', {0}, {1})", ("text", "int")),
    ),
    "bool": (
        ("({0} and {1})", ("bool", "bool")), ("({0} or {1})", ("bool", "bool")), ("(not {0})", ("bool",)),
        ("({0} is distinct from {1})", ("int", "int")), ("({0} is null)", ("text",)), ("({0} is not null)", ("num",)),
        ("({0} like {1})", ("text", "text")), ("({0} ilike 'a%')", ("text",)), ("({0} between {1} and {2})", ("int", "int", "int")),
        ("({0} in ({1}, {2}))", ("int", "int", "int")), ("({0} not in ({1}, {2}))", ("text", "text", "text")),
        ("({0} is true)", ("bool",)), ("({0} is not false)", ("bool",)), ("({0} ~ '^[a-z]')", ("text",)),
        ("starts_with({0}, {1})", ("text", "text")), ("({0} = any (array[{1}, {2}]))", ("int", "int", "int")),
        ("(({0}, {1}) < ({2}, {3}))", ("int", "text", "int", "text")), ("({0} is unknown)", ("bool",)),
        ("({0} > all (array[{1}, 3]))", ("int", "int")), ("({0} similar to '(a|b)%')", ("text",)),
    ),
    "date": (
        ("({0} + {1} % 1000)", ("date", "int")), ("({0} - 3)", ("date",)), ("{0}::date", ("ts",)),
    ),
    "ts": (
        ("{0}::timestamp", ("date",)), ("date_trunc('month', {0})", ("ts",)), ("({0} + interval '1 day 2 hours')", ("ts",)),
        ("({0} - interval '1 month')", ("date",)),
    ),
}  # fmt: skip
AGGREGATES: dict[str, tuple[tuple[str, str], ...]] = {
    "int": (("min({0})", "int"), ("max({0})", "int"), ("bit_and({0})", "int")),
    "big": (("count(*)", "int"), ("count({0})", "text"), ("count(distinct {0})", "int"), ("sum({0})", "int")),
    "num": (("sum({0})", "num"), ("avg({0})", "int"), ("sum({0})", "big"), ("max({0})", "num")),
    "flt": (("max({0})", "flt"), ("min({0})", "flt")),
    "text": (("max({0})", "text"), ("min({0})", "text"), ("string_agg({0}, ',' order by {0})", "text"),
             ("array_agg({0} order by {0})::text", "int")),
    "bool": (("bool_and({0})", "bool"), ("bool_or({0})", "bool"), ("every({0})", "bool")),
    "date": (("max({0})", "date"),),
    "ts": (("min({0})", "ts"),),
}  # fmt: skip
_COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")


class Column(NamedTuple):
    """A column that an expression may name."""

    name: str
    kind: str


class SqlGenerator:
    """Draws statements from one seeded source."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self._alias = 0

    # Expressions

    def expression(self, kind: str, columns: list[Column], depth: int) -> str:
        """Return an expression of a type over the columns."""
        rng = self.rng
        if rng.random() < 0.004:
            kind = rng.choice(TYPES)  # a slip
        fitting = [column.name for column in columns if column.kind == kind]
        if depth <= 0 or rng.random() < 0.15:
            if fitting and rng.random() < 0.75:
                return rng.choice(fitting)
            if rng.random() < 0.08:
                return rng.choice(("null", f"null::{SQL_NAMES[kind]}"))
            return rng.choice(LITERALS[kind])
        choice = rng.random()
        if choice < 0.55:
            return self._call(kind, columns, depth)
        if choice < 0.70:
            return self._case(kind, columns, depth)
        if choice < 0.80:
            form = rng.choice(
                ("coalesce({0}, {1})", "nullif({0}, {1})", "greatest({0}, {1})", "least({0}, {1})")
            )
            return form.format(*(self.expression(kind, columns, depth - 1) for _ in range(2)))
        if choice < 0.90 and kind == "bool":
            return self._comparison(columns, depth)
        if choice < 0.96 and depth > 1:
            return self._subquery_expression(kind, columns)
        return self.expression(kind, columns, 0)

    def _call(self, kind: str, columns: list[Column], depth: int) -> str:
        template, kinds = self.rng.choice(CALLS[kind])
        return template.format(*(self.expression(each, columns, depth - 1) for each in kinds))

    def _case(self, kind: str, columns: list[Column], depth: int) -> str:
        rng = self.rng
        value = lambda: self.expression(kind, columns, depth - 1)  # noqa: E731  three short uses
        tail = f" else {value()}" if rng.random() < 0.7 else ""
        if rng.random() < 0.6:
            arms = " ".join(
                f"when {self.expression('bool', columns, depth - 1)} then {value()}"
                for _ in range(rng.randrange(1, 3))
            )
            return f"case {arms}{tail} end"
        subject = rng.choice(TYPES)
        tested, arm = (self.expression(subject, columns, depth - 1) for _ in range(2))
        return f"case {tested} when {arm} then {value()}{tail} end"

    def _comparison(self, columns: list[Column], depth: int) -> str:
        kind = self.rng.choice(TYPES)
        left, right = (self.expression(kind, columns, depth - 1) for _ in range(2))
        return f"({left} {self.rng.choice(_COMPARISONS)} {right})"

    def _subquery_expression(self, kind: str, columns: list[Column]) -> str:
        rng = self.rng
        alias, table, inner = self._table()
        where = self.expression("bool", inner + columns, 1)
        if kind == "bool":
            compared = rng.choice(("int", "text"))
            form = rng.choice(("exists", "not exists", "in", "not in", "any", "all"))
            source = f"from {table} {alias} where {where}"
            if "exists" in form:
                return f"{form} (select 1 {source})"
            left = self.expression(compared, columns, 1)
            item = self.expression(compared, inner, 1)
            if form in ("any", "all"):
                form = f"{rng.choice(_COMPARISONS)} {form}"
            return f"({left} {form} (select {item} {source}))"
        template, argument = rng.choice(AGGREGATES[kind])
        item = template.format(self.expression(argument, inner, 1))
        return f"(select {item} from {table} {alias} where {where})"

    # Queries

    def _table(self) -> tuple[str, str, list[Column]]:
        self._alias += 1
        alias = f"r{self._alias}"
        table = self.rng.choice(tuple(TABLES))
        return (
            alias,
            table,
            [Column(f"{alias}.{name}", kind) for name, kind in TABLES[table].items()],
        )

    def _from(self, depth: int) -> tuple[str, list[Column]]:
        rng = self.rng
        text, columns = self._from_item(depth)
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            item, more = self._from_item(depth)
            join = rng.choice(
                ("join", "left join", "right join", "full join", "cross join", ",", "join lateral")
            )
            if join in ("cross join", ","):
                text = f"{text}{', ' if join == ',' else ' cross join '}{item}"
                if join == ",":  # a later ON may not see what stands before the comma
                    return text, columns + more
            else:
                join = "join" if join == "join lateral" else join
                on = (
                    self._equality(columns, more)
                    if join == "full join"
                    else self._join_condition(columns, more)
                )
                text = f"{text} {join} {item} on {on}"
            columns = columns + more
        return text, columns

    def _equality(self, left: list[Column], right: list[Column]) -> str:
        pairs = [(a.name, b.name) for a in left for b in right if a.kind == b.kind]
        if not pairs:
            return "true"
        a, b = self.rng.choice(pairs)
        return f"{a} = {b}"

    def _join_condition(self, left: list[Column], right: list[Column]) -> str:
        roll = self.rng.random()
        if roll < 0.7:
            return self._equality(left, right)
        if roll < 0.85:
            return f"{self._equality(left, right)} and {self.expression('bool', left + right, 1)}"
        return self.expression("bool", left + right, 1)

    def _from_item(self, depth: int) -> tuple[str, list[Column]]:
        rng = self.rng
        roll = rng.random()
        if depth > 0 and roll < 0.2:
            self._alias += 1
            alias = f"r{self._alias}"
            kinds = [rng.choice(TYPES) for _ in range(rng.randrange(1, 3))]
            query = self.query(kinds, depth - 1)
            names = [f"c{i}" for i in range(len(kinds))]
            return (
                f"({query}) {alias} ({', '.join(names)})",
                [Column(f"{alias}.{name}", kind) for name, kind in zip(names, kinds, strict=True)],
            )
        if roll < 0.27:
            self._alias += 1
            return f"generate_series(1, {rng.randrange(5)}) r{self._alias} (n)", [
                Column(f"r{self._alias}.n", "int")
            ]
        if roll < 0.32:
            self._alias += 1
            name = f"r{self._alias}"
            rows = ", ".join(
                f"({rng.choice(LITERALS['int'])}, {rng.choice(LITERALS['text'])})" for _ in range(3)
            )
            return f"(values {rows}) {name} (i, s)", [
                Column(f"{name}.i", "int"),
                Column(f"{name}.s", "text"),
            ]
        alias, table, columns = self._table()
        return f"{table} {alias}", columns

    def query(self, kinds: list[str], depth: int) -> str:
        """Return a query with columns of these types, without a top ORDER BY."""
        rng = self.rng
        roll = rng.random()
        if depth > 0 and roll < 0.15:
            operator = rng.choice(
                ("union", "union all", "intersect", "except", "intersect all", "except all")
            )
            return f"({self.query(kinds, depth - 1)}) {operator} ({self.query(kinds, depth - 1)})"
        if roll < 0.35:
            return self._grouped(kinds, depth)
        source, columns = self._from(depth)
        if roll < 0.45:
            items = ", ".join(self._window_or_plain(kind, columns) for kind in kinds)
        else:
            items = ", ".join(self.expression(kind, columns, 2) for kind in kinds)
        distinct = "distinct " if rng.random() < 0.12 else ""
        where = f" where {self.expression('bool', columns, 3)}" if rng.random() < 0.6 else ""
        return f"select {distinct}{items} from {source}{where}"

    def _window_or_plain(self, kind: str, columns: list[Column]) -> str:
        over = f"over (partition by {self.expression('bool', columns, 1)})"
        if kind == "big":
            ordered = self.expression("int", columns, 1)
            return self.rng.choice(
                (f"rank() over (order by {ordered})", f"dense_rank() over (order by {ordered})")
            )
        if kind in ("int", "num", "date"):
            template, argument = self.rng.choice(AGGREGATES[kind])
            return f"{template.format(self.expression(argument, columns, 1))} {over}"
        return self.expression(kind, columns, 1)

    def _grouped(self, kinds: list[str], depth: int) -> str:
        rng = self.rng
        source, columns = self._from(depth)
        keys = [rng.choice(columns) for _ in range(rng.choice((0, 1, 1, 2)))]
        items = []
        for kind in kinds:
            if keys and rng.random() < 0.3 and any(key.kind == kind for key in keys):
                items.append(self.expression(kind, keys, 1))
                continue
            template, argument = rng.choice(AGGREGATES[kind])
            item = template.format(self.expression(argument, columns, 1))
            if rng.random() < 0.15 and " order by" not in item:
                item += f" filter (where {self.expression('bool', columns, 1)})"
            items.append(item)
        where = f" where {self.expression('bool', columns, 2)}" if rng.random() < 0.4 else ""
        group = f" group by {', '.join(dict.fromkeys(key.name for key in keys))}" if keys else ""
        having = " having count(*) > 1" if rng.random() < 0.2 else ""
        return f"select {', '.join(items)} from {source}{where}{group}{having}"

    # Statements

    def statement(self) -> str:
        """Return one statement."""
        makers: tuple[tuple[Callable[[], str], float], ...] = (
            (self._select, 10),
            (self._insert, 2),
            (self._update, 2),
            (self._delete, 1.5),
            (self._with, 1.5),
        )
        weights = [weight for _, weight in makers]
        return self.rng.choices(makers, weights)[0][0]()

    def _select(self) -> str:
        rng = self.rng
        kinds = [rng.choice(TYPES) for _ in range(rng.randrange(1, 4))]
        text = self.query(kinds, 2)
        if rng.random() < 0.3:
            order = ", ".join(
                f"{i + 1}{rng.choice(('', ' desc', ' nulls first', ' desc nulls last'))}"
                for i in range(len(kinds))
            )
            text = f"{text} order by {order}"
            if rng.random() < 0.5:
                text += f" limit {rng.randrange(5)} offset {rng.randrange(3)}"
        return text

    def _with(self) -> str:
        rng = self.rng
        kinds = [rng.choice(TYPES) for _ in range(2)]
        materialized = rng.choice(("", "materialized ", "not materialized "))
        body = self.query(kinds, 1)
        columns = [Column(f"q.c{i}", kind) for i, kind in enumerate(kinds)]
        items = ", ".join(self.expression(rng.choice(TYPES), columns, 2) for _ in range(2))
        return (
            f"with q (c0, c1) as {materialized}({body}) select {items} from q"
            f" where {self.expression('bool', columns, 2)}"
        )

    def _returning(self, table: str) -> str:
        if self.rng.random() < 0.5:
            return ""
        columns = [Column(name, kind) for name, kind in TABLES[table].items()]
        return f" returning {self.expression(self.rng.choice(TYPES), columns, 2)}, *"

    def _insert(self) -> str:
        rng = self.rng
        table = rng.choice(tuple(TABLES))
        names = rng.sample(tuple(TABLES[table]), rng.randrange(1, len(TABLES[table]) + 1))
        key = next(iter(TABLES[table]))
        if key not in names and rng.random() < 0.9:
            names.append(key)
        kinds = [TABLES[table][name] for name in names]
        if rng.random() < 0.5:
            rows = ", ".join(
                "("
                + ", ".join(
                    self._new_value(name, kind) for name, kind in zip(names, kinds, strict=True)
                )
                + ")"
                for _ in range(rng.randrange(1, 3))
            )
            body = f"values {rows}"
        else:
            body = self.query(kinds, 0)
        conflict = ""
        # Which of several rows of a query meets the other is open.
        if body.startswith("values") and rng.random() < 0.4:
            settable = [name for name in TABLES[table] if name != key]
            name = rng.choice(settable)
            conflict = rng.choice(
                (
                    " on conflict do nothing",
                    f" on conflict ({key}) do nothing",
                    f" on conflict ({key}) do update set {name} = excluded.{name}",
                )
            )
        return f"insert into {table} ({', '.join(names)}) {body}{conflict}{self._returning(table)}"

    def _new_value(self, name: str, kind: str) -> str:
        if name in ("id", "k") and self.rng.random() < 0.7:
            return (
                f"'n{self.rng.randrange(1000)}'"
                if kind == "text"
                else str(self.rng.randrange(100, 10_000))
            )
        if self.rng.random() < 0.1:
            return "default"
        return self.expression(kind, [], 1)

    def _update(self) -> str:
        rng = self.rng
        table = rng.choice(tuple(TABLES))
        columns = [Column(f"{table}.{name}", kind) for name, kind in TABLES[table].items()]
        name, kind = rng.choice(tuple(TABLES[table].items()))
        source = ""
        condition = self.expression("bool", columns, 2)
        if rng.random() < 0.3:
            # A key on the source's side: else which row wins is open.
            source = " from (select distinct on (t1_id) t1_id, x, y from t2 order by t1_id, id) s"
            wanted = next(column.name for column in columns if column.kind == "int")
            condition = f"{wanted} = s.t1_id and {condition}"
            columns = [*columns, Column("s.x", "big"), Column("s.y", "text")]
        value = self.expression(kind, columns, 2)
        returning = "" if source else self._returning(table)
        return f"update {table} set {name} = {value}{source} where {condition}{returning}"

    def _delete(self) -> str:
        table = self.rng.choice(tuple(TABLES))
        columns = [Column(f"{table}.{name}", kind) for name, kind in TABLES[table].items()]
        where = self.expression("bool", columns, 3)
        return f"delete from {table} where {where}{self._returning(table)}"
