"""The whole grammar: texts to statements, by the first word."""

from typing import Final

import msgspec
from msgspec.structs import replace

from sql.ast.ddl import CreateTableAs
from sql.ast.query import DmlStatement, Expression, Query, Select, SetOperation, TypeName
from sql.ast.utility import Statement
from sql.errors import SqlSyntaxError
from sql.parser.objects import ObjectParser
from sql.span import Span


class ParsedStatement(msgspec.Struct, frozen=True):
    """A statement, the place of its text (without semicolon), and the highest ``$n`` in it."""

    statement: Statement
    span: Span
    parameter_count: int = 0


class Parser(ObjectParser):
    """Every statement."""

    __slots__ = ()

    def parse_script(self) -> tuple[ParsedStatement, ...]:
        """Parse the whole text: statements between semicolons, empty ones dropped."""
        parsed: list[ParsedStatement] = []
        kinds = self.kinds
        has_parameters = "PARAM" in kinds
        while True:
            while kinds[self.pos] == ";":
                self.pos += 1
            start = self.pos
            if kinds[start] == "EOF":
                return tuple(parsed)
            self.depth = 0
            statement = self.parse_statement()
            if kinds[self.pos] not in (";", "EOF"):
                raise self.unexpected()
            if self.intos:
                raise self._misplaced_into()
            span = Span(self.starts[start], self.ends[self.pos - 1])
            count = self._parameter_count(start) if has_parameters else 0
            parsed.append(ParsedStatement(statement, span, count))

    def _parameter_count(self, start: int) -> int:
        return max(
            (int(self.values[i]) for i in range(start, self.pos) if self.kinds[i] == "PARAM"),
            default=0,
        )

    def parse_statement(self) -> Statement:
        """Parse one statement up to its semicolon."""
        start = self.pos
        method = _STATEMENTS.get(self.kinds[start])
        if method is not None:
            return method(self)
        return self.as_table_if_into(self.parse_dml(), start)

    def as_table_if_into(self, statement: DmlStatement, start: int) -> DmlStatement | CreateTableAs:
        """Turn SELECT ... INTO t into CREATE TABLE t AS; INTO anywhere else is 42601."""
        if not self.intos:
            return statement
        if isinstance(statement, Select | SetOperation):
            query, into = _take_into(statement)
            if into is not None and into.into is not None and len(self.intos) == 1:
                self.intos.clear()
                return CreateTableAs(
                    into.into,
                    query,
                    temporary=into.into_temporary,
                    is_select_into=True,
                    span=self.span(start),
                )
        raise self._misplaced_into()

    def _misplaced_into(self) -> SqlSyntaxError:
        return SqlSyntaxError("SELECT ... INTO is not allowed here", span=self.intos[-1])


def _take_into(query: Query) -> tuple[Query, Select | None]:
    """Remove INTO from the leftmost SELECT; returns the query without and that SELECT as it was."""
    if isinstance(query, Select):
        return replace(query, into=None, into_temporary=False), query
    if isinstance(query, SetOperation):
        left, select = _take_into(query.left)
        return replace(query, left=left), select
    return query, None


def parse_statements(text: str) -> tuple[ParsedStatement, ...]:
    """Parse a text of any number of statements; empty ones are dropped.

    Nothing is returned unless all of it parses. Spans are character offsets in ``text``. Raises
    42601 with PostgreSQL's message and position, 54001 beyond NESTING_DEPTH_MAX, 0A000 for clauses
    nodedb has not.
    """
    return Parser(text).parse_script()


def parse_expression(text: str) -> Expression:
    """Parse one scalar expression and nothing after it."""
    parser = Parser(text)
    expression = parser.parse_expression()
    if parser.kinds[parser.pos] != "EOF":
        raise parser.unexpected()
    return expression


def parse_type_name(text: str) -> TypeName:
    """Parse one type name and nothing after it."""
    parser = Parser(text)
    type_name = parser.parse_type_name()
    if parser.kinds[parser.pos] != "EOF":
        raise parser.unexpected()
    return type_name


_STATEMENTS: Final = {
    "begin": Parser.parse_begin,
    "start": Parser.parse_begin,
    "commit": Parser.parse_commit,
    "end": Parser.parse_commit,
    "rollback": Parser.parse_rollback,
    "abort": Parser.parse_rollback,
    "savepoint": Parser.parse_savepoint,
    "release": Parser.parse_release,
    "set": Parser.parse_set,
    "show": Parser.parse_show,
    "reset": Parser.parse_reset,
    "discard": Parser.parse_discard,
    "prepare": Parser.parse_prepare,
    "execute": Parser.parse_execute,
    "deallocate": Parser.parse_deallocate,
    "declare": Parser.parse_declare,
    "fetch": Parser.parse_fetch,
    "move": Parser.parse_fetch,
    "close": Parser.parse_close,
    "explain": Parser.parse_explain,
    "copy": Parser.parse_copy,
    "listen": Parser.parse_listen,
    "unlisten": Parser.parse_unlisten,
    "notify": Parser.parse_notify,
    "lock": Parser.parse_lock,
    "analyze": Parser.parse_analyze,
    "analyse": Parser.parse_analyze,
    "vacuum": Parser.parse_vacuum,
    "checkpoint": Parser.parse_checkpoint,
    "do": Parser.parse_do,
    "create": Parser.parse_create,
    "alter": Parser.parse_alter,
    "drop": Parser.parse_drop,
    "truncate": Parser.parse_truncate,
    "reindex": Parser.parse_reindex,
    "comment": Parser.parse_comment,
    "grant": Parser.parse_grant,
    "revoke": Parser.parse_revoke,
    "reassign": Parser.parse_reassign,
    "call": Parser.parse_unsupported,
    "cluster": Parser.parse_unsupported,
    "import": Parser.parse_unsupported,
    "load": Parser.parse_unsupported,
    "merge": Parser.parse_unsupported,
    "refresh": Parser.parse_unsupported,
    "security": Parser.parse_unsupported,
}
