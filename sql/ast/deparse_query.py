"""Queries and data-modifying statements as SQL text; expressions come from the subclass."""

from typing import Final

from sql.ast import query as q
from sql.ast.deparse_names import qualified_name_text, quote_identifier, type_name_text

_JOINS: Final = {
    "inner": "JOIN",
    "left": "LEFT JOIN",
    "right": "RIGHT JOIN",
    "full": "FULL JOIN",
    "cross": "CROSS JOIN",
}
_INDENT: Final = 8


def _search(search: q.SearchClause | None) -> str:
    if search is None:
        return ""
    order = "BREADTH" if search.breadth else "DEPTH"
    columns = ", ".join(map(quote_identifier, search.columns))
    return f" SEARCH {order} FIRST BY {columns} SET {quote_identifier(search.sequence)}"


class QueryPrinter:
    """``level`` counts the queries around the one being printed; ``pretty`` breaks lines."""

    def __init__(self, *, pretty: bool) -> None:
        self.pretty = pretty
        self.level = 0

    def expression(self, node: q.Expression) -> str:
        """Print an expression."""
        raise NotImplementedError

    def expressions(self, nodes: tuple[q.Expression, ...]) -> str:
        """Print expressions with commas."""
        raise NotImplementedError

    def brackets(self, node: q.Subscript) -> str:
        """Print a subscript without its operand."""
        raise NotImplementedError

    def window(self, window: q.WindowDefinition) -> str:
        """Print a window specification in parentheses."""
        raise NotImplementedError

    def statement(self, node: q.DmlStatement, level: int) -> str:
        """Print any statement at a nesting level."""
        outer, self.level = self.level, level
        if isinstance(node, q.Insert):
            text = self._insert(node)
        elif isinstance(node, q.Update):
            text = self._update(node)
        elif isinstance(node, q.Delete):
            text = self._delete(node)
        else:
            text = self._query(node)
        self.level = outer
        return text

    # --- layout ---

    def _clause(self, words: str, columns: int) -> str:
        """Separate a clause: a new line indented by ``columns`` when pretty, else a space."""
        if not self.pretty:
            return f" {words}"
        return "\n" + " " * (columns + self.level * _INDENT) + words

    def _items(self, items: list[str], columns: int) -> str:
        if not self.pretty:
            return ", ".join(items)
        return (",\n" + " " * (columns + self.level * _INDENT)).join(items)

    # --- queries ---

    def _query(self, node: q.Query) -> str:
        text = self._with(node.with_clause)
        if isinstance(node, q.Select):
            text += self._select(node)
        elif isinstance(node, q.Values):
            rows = [f"({self.expressions(row)})" for row in node.rows]
            text += (" " if self.pretty else "") + "VALUES " + self._items(rows, 4)
        else:
            text += self._set_operation(node)
        return text + self._tail(node)

    def _with(self, clause: q.WithClause | None) -> str:
        if clause is None:
            return ""
        tables = [self._common_table(table) for table in clause.tables]
        lead = " " if self.pretty else ""
        end = self._clause("", 0).rstrip(" ") if self.pretty else " "
        return f"{lead}WITH {'RECURSIVE ' if clause.recursive else ''}{', '.join(tables)}{end}"

    def _common_table(self, table: q.CommonTable) -> str:
        columns = f"({', '.join(map(quote_identifier, table.columns))})" if table.columns else ""
        hint = {None: "", True: "MATERIALIZED ", False: "NOT MATERIALIZED "}[table.materialized]
        body = self.statement(table.statement, self.level + 1)
        tail = _search(table.search) + self._cycle(table.cycle)
        return f"{quote_identifier(table.name)}{columns} AS {hint}({body}){tail}"

    def _cycle(self, cycle: q.CycleClause | None) -> str:
        if cycle is None:
            return ""
        columns = ", ".join(map(quote_identifier, cycle.columns))
        values = ""
        if not isinstance(cycle.value, q.BooleanLiteral):
            default = self.expression(cycle.default)
            values = f" TO {self.expression(cycle.value)} DEFAULT {default}"
        path = quote_identifier(cycle.path)
        return f" CYCLE {columns} SET {quote_identifier(cycle.mark)}{values} USING {path}"

    def _set_operation(self, node: q.SetOperation) -> str:
        word = node.operator.upper() + (" ALL" if node.all else "")
        left, right = self._operand(node.left), self._operand(node.right)
        if not self.pretty:
            return f"{left} {word} {right}"
        margin = "\n" + " " * (self.level * _INDENT)
        return f"{left}{margin}{word}{margin}{right}"

    def _operand(self, node: q.Query) -> str:
        text = self._query(node)
        has_tail = node.with_clause or node.order_by or node.limit or node.offset
        is_plain = isinstance(node, q.Values) or (isinstance(node, q.Select) and not node.locking)
        return text if is_plain and not has_tail else f"({text})"

    def _select(self, node: q.Select) -> str:
        head = " SELECT" if self.pretty else "SELECT"
        if node.distinct_on is not None:
            head += " DISTINCT"
            head += f" ON ({self.expressions(node.distinct_on)})" if node.distinct_on else ""
        if node.targets:
            head += " " + self._items([self._target(target) for target in node.targets], 4)
        parts = [head]
        if node.into is not None:
            parts.append(self._clause(self._into(node), 3))
        if node.from_items:
            items = [self._from_item(item) for item in node.from_items]
            parts.append(self._clause("FROM " + self._items(items, 4), 3))
        if node.where is not None:
            parts.append(self._clause(f"WHERE {self.expression(node.where)}", 2))
        if node.group_by:
            word = "GROUP BY DISTINCT" if node.group_distinct else "GROUP BY"
            parts.append(self._clause(f"{word} {self.expressions(node.group_by)}", 2))
        if node.having is not None:
            parts.append(self._clause(f"HAVING {self.expression(node.having)}", 2))
        if node.windows:
            windows = ", ".join(
                f"{quote_identifier(window.name)} AS {self.window(window)}"
                for window in node.windows
            )
            parts.append(self._clause(f"WINDOW {windows}", 2))
        return "".join(parts)

    def _into(self, node: q.Select) -> str:
        assert node.into is not None, "asked only then"
        return f"INTO {'TEMPORARY ' if node.into_temporary else ''}{qualified_name_text(node.into)}"

    def _target(self, target: q.Target) -> str:
        text = self.expression(target.expression)
        return f"{text} AS {quote_identifier(target.label)}" if target.label else text

    def _tail(self, node: q.Query) -> str:
        parts: list[str] = []
        if node.order_by:
            parts.append(self._clause(f"ORDER BY {self.sort_keys(node.order_by)}", 2))
        if node.offset is not None:
            parts.append(self._clause(f"OFFSET {self.expression(node.offset)}", 1))
        if node.limit is not None:
            count = self.expression(node.limit)
            # FETCH takes a primary only, which parentheses always are.
            text = f"FETCH FIRST ({count}) ROWS WITH TIES" if node.with_ties else f"LIMIT {count}"
            parts.append(self._clause(text, 1))
        for lock in () if isinstance(node, q.Values) else node.locking:
            of = f" OF {', '.join(map(quote_identifier, lock.of))}" if lock.of else ""
            wait = {"wait": "", "nowait": " NOWAIT", "skip": " SKIP LOCKED"}[lock.wait]
            parts.append(self._clause(f"FOR {lock.strength.upper()}{of}{wait}", 1))
        return "".join(parts)

    def sort_keys(self, keys: tuple[q.SortKey, ...]) -> str:
        """Print the keys of ORDER BY."""
        return ", ".join(map(self._sort_key, keys))

    def _sort_key(self, key: q.SortKey) -> str:
        nulls = {None: "", True: " NULLS FIRST", False: " NULLS LAST"}[key.nulls_first]
        return f"{self.expression(key.expression)}{' DESC' if key.descending else ''}{nulls}"

    # --- FROM ---

    def _from_item(self, item: q.FromItem) -> str:
        if isinstance(item, q.TableRef):
            text = f"{'ONLY ' if item.only else ''}{qualified_name_text(item.name)}"
            return text + (f" {self._alias(item.alias)}" if item.alias else "")
        if isinstance(item, q.SubqueryRef):
            body = self.statement(item.query, self.level + 1)
            text = f"{'LATERAL ' if item.lateral else ''}({body})"
            return text + (f" {self._alias(item.alias)}" if item.alias else "")
        if isinstance(item, q.FunctionRef):
            return self._function(item)
        return self._join(item)

    def _join(self, item: q.JoinRef) -> str:
        word = ("NATURAL " if item.natural else "") + _JOINS[item.kind]
        text = self._from_item(item.left) + self._clause(f"{word} {self._from_item(item.right)}", 5)
        if item.condition is not None:
            text += f" ON {self.expression(item.condition)}"
        elif item.using:
            text += f" USING ({', '.join(map(quote_identifier, item.using))})"
            text += f" AS {quote_identifier(item.using_alias)}" if item.using_alias else ""
        return f"({text})" + (f" AS {self._alias(item.alias)}" if item.alias else "")

    def _function(self, item: q.FunctionRef) -> str:
        calls = self.expressions(item.calls)
        text = f"ROWS FROM({calls})" if item.rows_from else calls
        if item.lateral:
            text = f"LATERAL {text}"
        if item.ordinality:
            text += " WITH ORDINALITY"
        if item.alias is None:
            return text
        return f"{text} {'' if item.alias.name else 'AS '}{self._alias(item.alias)}"

    def _alias(self, alias: q.Alias) -> str:
        name = quote_identifier(alias.name) if alias.name else ""
        if not alias.columns:
            return name
        columns = list(map(quote_identifier, alias.columns))
        if alias.column_types:
            pairs = zip(columns, alias.column_types, strict=True)
            columns = [f"{column} {type_name_text(kind)}" for column, kind in pairs]
        return f"{name}({', '.join(columns)})"

    # --- data-modifying statements ---

    def _insert(self, node: q.Insert) -> str:
        parts = [self._with(node.with_clause), f"INSERT INTO {qualified_name_text(node.table)}"]
        if node.alias:
            parts.append(f" AS {quote_identifier(node.alias)}")
        if node.columns:
            subscripts = node.column_subscripts or ((),) * len(node.columns)
            names = [
                quote_identifier(name) + "".join(map(self.brackets, parts))
                for name, parts in zip(node.columns, subscripts, strict=True)
            ]
            parts.append(f" ({', '.join(names)})")
        if node.overriding:
            parts.append(f" OVERRIDING {node.overriding.upper()} VALUE")
        if node.source is None:
            parts.append(" DEFAULT VALUES")
        else:
            parts.append(f" {self._query(node.source).lstrip()}")
        if node.on_conflict is not None:
            parts.append(self._on_conflict(node.on_conflict))
        return "".join(parts) + self._returning(node.returning)

    def _on_conflict(self, node: q.OnConflict) -> str:
        text = " ON CONFLICT"
        if node.target is not None and node.target.constraint:
            text += f" ON CONSTRAINT {quote_identifier(node.target.constraint)}"
        elif node.target is not None:
            keys = [
                self.expression(key)
                if isinstance(key, q.ColumnRef)
                else f"({self.expression(key)})"
                for key in node.target.expressions
            ]
            text += f" ({', '.join(keys)})"
            if node.target.where is not None:
                text += f" WHERE {self.expression(node.target.where)}"
        if node.action == "nothing":
            return f"{text} DO NOTHING"
        text += f" DO UPDATE SET {self._assignments(node.assignments)}"
        return text + self._where(node.where)

    def _assignments(self, assignments: tuple[q.Assignment, ...]) -> str:
        return ", ".join(map(self._assignment, assignments))

    def _assignment(self, node: q.Assignment) -> str:
        names = ", ".join(map(quote_identifier, node.columns))
        subscripts = "".join(map(self.brackets, node.subscripts))
        # A list of one column was written in parentheses only for a row or a query.
        is_list = len(node.columns) > 1
        target = f"({names})" if is_list else names + subscripts
        return f"{target} = {self.expression(node.value)}"

    def _where(self, condition: q.Expression | None) -> str:
        return "" if condition is None else self._clause(f"WHERE {self.expression(condition)}", 2)

    def _returning(self, targets: tuple[q.Target, ...]) -> str:
        if not targets:
            return ""
        return self._clause(f"RETURNING {', '.join(map(self._target, targets))}", 2)

    def _update(self, node: q.Update) -> str:
        text = f"{self._with(node.with_clause)}UPDATE {self._from_item(node.table)}"
        text += f" SET {self._assignments(node.assignments)}"
        if node.from_items:
            text += self._clause(f"FROM {', '.join(map(self._from_item, node.from_items))}", 3)
        return text + self._where(node.where) + self._returning(node.returning)

    def _delete(self, node: q.Delete) -> str:
        text = f"{self._with(node.with_clause)}DELETE FROM {self._from_item(node.table)}"
        if node.using:
            text += self._clause(f"USING {', '.join(map(self._from_item, node.using))}", 3)
        return text + self._where(node.where) + self._returning(node.returning)
