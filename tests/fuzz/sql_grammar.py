"""Generator (c): statements by grammar, typed, over three small tables.

Types are short names: int, big, num, flt, text, bool, date, ts. Every expression is made for a
type, so that most statements are accepted; a few deliberate slips test refusals. What PostgreSQL
leaves open is avoided: LIMIT comes with an ORDER BY over every column, aggregates that depend on
order have one, sums over float8 are not made.
"""

from random import Random
from typing import TYPE_CHECKING, NamedTuple

from tests.fuzz.sql_tables import AGGREGATES, CALLS, LITERALS, SQL_NAMES, TABLES, TYPES

if TYPE_CHECKING:
    from collections.abc import Callable

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
