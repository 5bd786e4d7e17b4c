"""Transaction control, SET and SHOW, prepared statements, cursors, COPY, EXPLAIN and maintenance.

Each ``parse_*`` starts at the statement's first word. Source: PostgreSQL docs, "SQL Commands".
"""

from typing import Final, Literal

from sql.ast.ddl import CreateTableAs, OptionValue, StorageOption
from sql.ast.query import (
    Delete,
    DmlStatement,
    Expression,
    Insert,
    QualifiedName,
    Select,
    SetOperation,
    TypeName,
    Update,
    Values,
)
from sql.ast.utility import (
    Analyze,
    Begin,
    Checkpoint,
    Commit,
    Copy,
    Deallocate,
    DeclareCursor,
    Discard,
    Do,
    ExecutePrepared,
    Explain,
    IsolationLevel,
    Listen,
    LockTable,
    Notify,
    Prepare,
    PrepareTransaction,
    ReleaseSavepoint,
    ResetVariable,
    Rollback,
    RollbackToSavepoint,
    Savepoint,
    SetConstraints,
    SetTransaction,
    SetVariable,
    ShowCluster,
    ShowVariable,
    Statement,
    TransactionModes,
    Unlisten,
    Vacuum,
)
from sql.errors import SqlSyntaxError
from sql.parser.cursor import COL_ID, COL_LABEL, NON_RESERVED
from sql.parser.cursor_statements import CursorStatementParser

_LOCK_MODES: Final = (
    ("access", "share"),
    ("access", "exclusive"),
    ("row", "share"),
    ("row", "exclusive"),
    ("share", "update", "exclusive"),
    ("share", "row", "exclusive"),
    ("share",),
    ("exclusive",),
)
_SHOW_WITHOUT_ARGUMENTS: Final = frozenset(
    (
        "schema version",
        "ranges",
        "routing",
        "nodes",
        "cluster",
        "raft groups",
        "migrations",
        "peer health",
        "connections",
    )
)
_COPY_LEGACY: Final = frozenset(
    (
        "binary",
        "freeze",
        "delimiter",
        "null",
        "csv",
        "header",
        "quote",
        "escape",
        "force",
        "encoding",
    )
)


_EXPLAINABLE: Final = (
    Select,
    Values,
    SetOperation,
    Insert,
    Update,
    Delete,
    CreateTableAs,
    ExecutePrepared,
    DeclareCursor,
)


class SessionParser(CursorStatementParser):
    """The statements of sql/ast/utility.py."""

    __slots__ = ()

    def parse_statement(self) -> Statement:
        """Any statement."""
        raise NotImplementedError

    # --- transactions ---

    def parse_begin(self) -> Statement:
        """BEGIN and START TRANSACTION."""
        start = self.pos
        self.pos += 1
        if self.kinds[start] == "start":
            self.expect("transaction")
        else:
            self.accept_any(("work", "transaction"))
        modes = self._transaction_modes(optional=True)
        return Begin(modes, self.kinds[start] == "start", self.span(start))

    def _transaction_modes(self, *, optional: bool) -> TransactionModes:
        isolation: IsolationLevel | None = None
        read_only: bool | None = None
        deferrable: bool | None = None
        first = True
        while True:
            if not first and not self.accept(",") and self.at_end():
                break
            kind = self.kinds[self.pos]
            if kind == "isolation":
                self.pos += 1
                self.expect("level")
                isolation = self._isolation()
            elif kind == "read":
                self.pos += 1
                read_only = self.expect_any(("only", "write")) == "only"
            elif kind == "deferrable":
                self.pos += 1
                deferrable = True
            elif kind == "not":
                self.pos += 1
                self.expect("deferrable")
                deferrable = False
            elif first and optional:
                break
            else:
                raise self.unexpected()
            first = False
        return TransactionModes(isolation, read_only, deferrable)

    def _isolation(self) -> IsolationLevel:
        if self.accept("serializable"):
            return "serializable"
        if self.accept("repeatable"):
            self.expect("read")
            return "repeatable read"
        self.expect("read")
        word = self.expect_any(("committed", "uncommitted"))
        return "read committed" if word == "committed" else "read uncommitted"

    def parse_commit(self) -> Statement:
        """COMMIT, END and COMMIT PREPARED."""
        start = self.pos
        self.pos += 1
        if self.kinds[start] == "commit" and self.accept("prepared"):
            return PrepareTransaction("commit", self.parse_string(), self.span(start))
        self.accept_any(("work", "transaction"))
        return Commit(self._chain(), self.span(start))

    def _chain(self) -> bool:
        if not self.accept("and"):
            return False
        is_no = self.accept("no")
        self.expect("chain")
        return not is_no

    def parse_rollback(self) -> Statement:
        """ROLLBACK, ABORT, ROLLBACK TO and ROLLBACK PREPARED."""
        start = self.pos
        self.pos += 1
        is_rollback = self.kinds[start] == "rollback"
        if is_rollback and self.accept("prepared"):
            return PrepareTransaction("rollback", self.parse_string(), self.span(start))
        self.accept_any(("work", "transaction"))
        if is_rollback and self.accept("to"):
            return RollbackToSavepoint(self._savepoint_name(), self.span(start))
        return Rollback(self._chain(), self.span(start))

    def _savepoint_name(self) -> str:
        if self.kinds[self.pos] == "savepoint" and self.kinds[self.pos + 1] in COL_ID:
            self.pos += 1
        return self.parse_name()

    def parse_savepoint(self) -> Statement:
        """SAVEPOINT."""
        start = self.pos
        self.pos += 1
        return Savepoint(self.parse_name(), self.span(start))

    def parse_release(self) -> Statement:
        """RELEASE."""
        start = self.pos
        self.pos += 1
        return ReleaseSavepoint(self._savepoint_name(), self.span(start))

    # --- settings ---

    def parse_set(self) -> Statement:
        """SET in all its forms."""
        start = self.pos
        self.pos += 1
        kinds = self.kinds
        if kinds[self.pos] == "constraints":
            return self._set_constraints(start)
        if self.accept_all("session", "characteristics"):
            self.expect_all("as", "transaction")
            modes = self._transaction_modes(optional=False)
            return SetTransaction(modes, session=True, span=self.span(start))
        local = False
        if kinds[self.pos + 1] not in ("to", "=", ".", "from", "authorization"):
            local = self.accept_any(("session", "local")) == "local"
        if kinds[self.pos] == "transaction" and kinds[self.pos + 1] not in ("to", "=", "."):
            self.pos += 1
            if kinds[self.pos] == "snapshot":
                raise self.not_supported("SET TRANSACTION SNAPSHOT", self.pos)
            modes = self._transaction_modes(optional=False)
            return SetTransaction(modes, span=self.span(start))
        name, values = self.parse_setting()
        return SetVariable(name, values, local, self.span(start))

    def _set_constraints(self, start: int) -> Statement:
        self.pos += 1
        names = () if self.accept("all") else self.parse_list(self.parse_qualified_name)
        deferred = self.expect_any(("deferred", "immediate")) == "deferred"
        return SetConstraints(names, deferred, self.span(start))

    def parse_setting(self) -> tuple[str, tuple[OptionValue, ...] | None]:
        """set_rest_more as (variable, values); values None means DEFAULT."""
        start = self.pos
        kind, following = self.kinds[start], self.kinds[start + 1]
        if following in ("to", "=", ".", "from") and kind in COL_ID:
            return self._generic_setting()
        self.pos += 1
        if kind == "time" and self.accept("zone"):
            return "timezone", self._zone()
        if kind == "schema":
            return "search_path", (self.parse_string(),)
        if kind == "names":
            if self.kinds[self.pos] == "SCONST":
                return "client_encoding", (self.parse_string(),)
            self.accept("default")
            return "client_encoding", None
        if kind == "role":
            return "role", (self.parse_word_or_string(),)
        if kind == "session" and self.accept("authorization"):
            if self.accept("default"):
                return "session_authorization", None
            return "session_authorization", (self.parse_word_or_string(),)
        if kind == "xml" and self.accept("option"):
            return "xmloption", (self.expect_any(("document", "content")),)
        if kind in COL_ID:
            raise self.unexpected(start + 1)
        raise self.unexpected(start)

    def _generic_setting(self) -> tuple[str, tuple[OptionValue, ...] | None]:
        name = self.parse_variable_name()
        if self.kinds[self.pos] == "from":
            self.pos += 1
            self.expect("current")
            raise self.not_supported("SET ... FROM CURRENT", self.pos - 2)
        self.expect_any(("to", "="))
        if self.accept("default"):
            return name, None
        return name, self.parse_list(self._setting_value)

    def parse_variable_name(self) -> str:
        """var_name: ``name[.name ...]``."""
        parts = [self.parse_name()]
        while self.accept("."):
            parts.append(self.parse_name())
        return ".".join(parts)

    def _setting_value(self) -> OptionValue:
        kind = self.kinds[self.pos]
        if kind in ("ICONST", "FCONST", "+", "-"):
            return self.parse_number()
        if kind in ("true", "false", "on"):
            self.pos += 1
            return kind
        return self.parse_word_or_string()

    def parse_word_or_string(self) -> str:
        """NonReservedWord_or_Sconst."""
        if self.kinds[self.pos] == "SCONST":
            return self.parse_string()
        return self.parse_non_reserved()

    def _zone(self) -> tuple[OptionValue, ...] | None:
        kind = self.kinds[self.pos]
        if kind in ("local", "default"):
            self.pos += 1
            return None
        if kind in ("ICONST", "FCONST", "+", "-"):
            return (self.parse_number(),)
        if kind == "interval":
            self.pos += 1
            if self.accept("("):
                self.parse_signed_integer()
                self.expect(")")
            value = self.parse_string().replace("'", "''")
            at = self.pos
            _, fields = self.parse_interval_fields()
            if not {"hour", "to", "minute"}.issuperset(fields):
                raise self.error_at("time zone interval must be HOUR or HOUR TO MINUTE", at)
            return (" ".join((f"INTERVAL '{value}'", *fields)),)
        if kind not in ("SCONST", "IDENT"):
            raise self.unexpected()
        self.pos += 1
        return (self.values[self.pos - 1],)

    def parse_reset(self) -> Statement:
        """RESET."""
        start = self.pos
        self.pos += 1
        return ResetVariable(self.parse_reset_name(), self.span(start))

    def parse_reset_name(self) -> str:
        """reset_rest: a variable, or ALL as "all"."""
        if self.accept("all"):
            return "all"
        return self._named_setting()

    def _named_setting(self) -> str:
        if self.accept_all("time", "zone"):
            return "timezone"
        if self.accept_all("transaction", "isolation", "level"):
            return "transaction_isolation"
        if self.accept_all("session", "authorization"):
            return "session_authorization"
        return self.parse_variable_name()

    def parse_show(self) -> Statement:
        """SHOW of a variable, or one of nodedb's own."""
        start = self.pos
        self.pos += 1
        cluster = self._show_cluster(start)
        if cluster is not None:
            return cluster
        if self.accept("all"):
            return ShowVariable("all", self.span(start))
        return ShowVariable(self._named_setting(), self.span(start))

    def _show_cluster(self, start: int) -> ShowCluster | None:
        words = [self.values[self.pos]] if self.kinds[self.pos] in COL_ID else []
        pos = self.pos + 1
        if words and self.kinds[pos] in COL_LABEL and self.kinds[pos] != "for":
            words.append(self.values[pos])
            pos += 1
        args: tuple[OptionValue, ...] = ()
        table: QualifiedName | None = None
        what = " ".join(words)
        kind = self.kinds[pos]
        if what in ("node", "raft group") and kind in ("ICONST", "SCONST"):
            self.pos = pos + 1
            args = (int(self.values[pos]) if kind == "ICONST" else self.values[pos],)
        elif what == "routing" and kind == "for":
            self.pos = pos + 1
            self.expect("table")
            table = self.parse_qualified_name()
            args = self._routing_key()
        elif what in _SHOW_WITHOUT_ARGUMENTS and kind in (";", "EOF"):
            self.pos = pos
        else:
            return None
        return ShowCluster(what, args, self.span(start), table)

    def _routing_key(self) -> tuple[OptionValue, ...]:
        self.expect_all("key", "(")
        values = self.parse_list(self._key_value)
        self.expect(")")
        return values

    def _key_value(self) -> OptionValue:
        """Read a constant; a number that is no int4 stays text, for no digit of it may be lost."""
        kind = self.kinds[self.pos]
        if kind == "null":
            self.pos += 1
            return None
        if kind in ("true", "false"):
            self.pos += 1
            return kind == "true"
        if kind == "SCONST":
            return self.parse_string()
        at = self.pos
        number = self.parse_number()
        if self.kinds[self.pos - 1] == "ICONST":
            return number
        sign = "-" if self.kinds[at] == "-" else ""
        return sign + self.values[self.pos - 1]

    def parse_discard(self) -> Statement:
        """DISCARD."""
        start = self.pos
        self.pos += 1
        word = self.expect_any(("all", "plans", "sequences", "temp", "temporary"))
        what: Literal["all", "plans", "sequences", "temp"] = (
            "temp" if word == "temporary" else word  # type: ignore[assignment]
        )
        return Discard(what, self.span(start))

    # --- prepared statements and cursors ---

    def parse_prepare(self) -> Statement:
        """PREPARE and PREPARE TRANSACTION."""
        start = self.pos
        self.pos += 1
        if self.kinds[self.pos] == "transaction" and self.kinds[self.pos + 1] == "SCONST":
            self.pos += 1
            return PrepareTransaction("prepare", self.parse_string(), self.span(start))
        name = self.parse_name()
        types: tuple[TypeName, ...] = ()
        if self.accept("("):
            types = self.parse_list(self.parse_type_name)
            self.expect(")")
        self.expect("as")
        return Prepare(name, types, self.parse_dml(), self.span(start))

    def parse_execute(self) -> ExecutePrepared:
        """EXECUTE."""
        start = self.pos
        self.pos += 1
        name = self.parse_name()
        args: tuple[Expression, ...] = ()
        if self.accept("("):
            args = self.parse_expression_list()
            self.expect(")")
        return ExecutePrepared(name, args, self.span(start))

    def parse_deallocate(self) -> Statement:
        """DEALLOCATE."""
        start = self.pos
        self.pos += 1
        if self.kinds[self.pos] == "prepare" and self.kinds[self.pos + 1] not in (";", "EOF"):
            self.pos += 1
        name = "" if self.accept("all") else self.parse_name()
        return Deallocate(name, self.span(start))

    # --- EXPLAIN, COPY ---

    def parse_explain(self) -> Statement:
        """EXPLAIN."""
        start = self.pos
        self.pos += 1
        options: list[StorageOption] = []
        if self.kinds[self.pos] == "(" and not self.at_query():
            options = self.parse_options()
        else:
            for words in (("analyze", "analyse"), ("verbose",)):
                at = self.pos
                if self.accept_any(words):
                    options.append(StorageOption(words[0], None, self.token_span(at)))
        at = self.pos
        statement: Statement
        if self.kinds[at] in ("create", "declare", "execute"):
            if self.kinds[at] == "create":
                self._expect_table_as()
            statement = self.parse_statement()
        else:
            statement = self.as_table_if_into(self.parse_dml(), at)
        if not isinstance(statement, _EXPLAINABLE):
            raise self.unexpected(at + 1)
        return Explain(statement, tuple(options), self.span(start))

    def _expect_table_as(self) -> None:
        """Look ahead: of all that CREATE begins only a table made by a query can be explained."""
        start = self.pos
        self.pos += 1
        if self.accept("materialized"):
            self.expect("view")
        else:
            self.accept_any(("global", "local"))
            self.accept_any(("temp", "temporary", "unlogged"))
            self.expect("table")
        self.accept_all("if", "not", "exists")
        self.parse_qualified_name()
        if self.kinds[self.pos] == "(":
            self.parse_paren_names()
        self.pos = start

    def as_table_if_into(self, statement: DmlStatement, start: int) -> DmlStatement | CreateTableAs:
        """Turn SELECT ... INTO t into CREATE TABLE t AS."""
        raise NotImplementedError

    def parse_options(self) -> list[StorageOption]:
        """utility_option_list: ``(name [value], ...)``."""
        self.expect("(")
        options = []
        while True:
            at = self.pos
            if self.kinds[at] not in NON_RESERVED and self.kinds[at] not in ("analyze", "analyse"):
                raise self.unexpected()
            self.pos += 1
            name = "analyze" if self.kinds[at] == "analyse" else self.values[at]
            value: OptionValue = None
            if self.kinds[self.pos] not in (",", ")"):
                value = self._setting_value()
            options.append(StorageOption(name, value, self.token_span(at)))
            if not self.accept(","):
                break
        self.expect(")")
        return options

    def parse_copy(self) -> Statement:
        """COPY."""
        start = self.pos
        self.pos += 1
        table: QualifiedName | None = None
        columns: tuple[str, ...] = ()
        query: DmlStatement | None = None
        options: list[StorageOption] = []
        lists: list[tuple[str, tuple[str, ...]]] = []
        if self.accept("("):
            query = self.parse_dml()
            self.expect(")")
            is_from = False
            self.expect("to")
        else:
            at = self.pos
            if self.accept("binary"):
                options.append(StorageOption("format", "binary", self.token_span(at)))
            table = self.parse_qualified_name()
            if self.kinds[self.pos] == "(":
                columns = self.parse_paren_names()
            is_from = self.expect_any(("from", "to")) == "from"
        target = self._copy_target(is_from=is_from)
        if table is not None:
            at = self.pos
            if self.accept("using"):
                self.expect("delimiters")
                options.append(StorageOption("delimiter", self.parse_string(), self.token_span(at)))
        self.accept("with")
        if self.kinds[self.pos] == "(":
            self._copy_options(options, lists)
        else:
            while self.kinds[self.pos] in _COPY_LEGACY:
                self._legacy_copy_option(options, lists)
        self._check_redundant(options, lists)
        where = None
        if table is not None and self.kinds[self.pos] == "where":
            at = self.pos
            self.pos += 1
            where = self.parse_expression()
            if not is_from:
                raise self.error_at("WHERE clause not allowed with COPY TO", at)
        return Copy(
            table,
            columns,
            query,
            is_from,
            target,
            tuple(options),
            tuple(lists),
            where,
            self.span(start),
        )

    def _check_redundant(
        self, options: list[StorageOption], lists: list[tuple[str, tuple[str, ...]]]
    ) -> None:
        seen = {name for name, _ in lists}
        if len(seen) < len(lists):
            raise self.error_at("conflicting or redundant options", self.pos - 1)
        for option in options:
            if option.name in seen:
                error = self.error_at("conflicting or redundant options", 0)
                error.position = option.span.position
                raise error
            seen.add(option.name)

    def _copy_target(self, *, is_from: bool) -> Literal["stdin", "stdout", "file", "program"]:
        program = self.accept("program")
        kind = self.expect_any(("SCONST", "stdin", "stdout"))
        if kind == "SCONST":
            return "program" if program else "file"
        if program:
            raise SqlSyntaxError("STDIN/STDOUT not allowed with PROGRAM")
        return "stdin" if is_from else "stdout"

    def _copy_options(
        self, options: list[StorageOption], lists: list[tuple[str, tuple[str, ...]]]
    ) -> None:
        self.pos += 1
        while True:
            at = self.pos
            name = self.parse_label()
            kind = self.kinds[self.pos]
            if kind == "(":
                self.pos += 1
                lists.append((name, self.parse_list(self._option_word)))
                self.expect(")")
            elif kind == "*":
                self.pos += 1
                lists.append((name, ("*",)))
            else:
                value = None if kind in (",", ")") else self._setting_value()
                options.append(StorageOption(name, value, self.token_span(at)))
            if not self.accept(","):
                break
        self.expect(")")

    def _option_word(self) -> str:
        return str(self._setting_value())

    def _legacy_copy_option(
        self, options: list[StorageOption], lists: list[tuple[str, tuple[str, ...]]]
    ) -> None:
        at = self.pos
        word = self.kinds[at]
        self.pos += 1
        name, value = word, None  # type: str, OptionValue
        if word in ("binary", "csv"):
            name, value = "format", word
        elif word in ("freeze", "header"):
            value = True
        elif word == "encoding":
            value = self.parse_string()
        elif word == "force":
            if self.accept("quote"):
                columns = ("*",) if self.accept("*") else self.parse_name_list()
                lists.append(("force_quote", columns))
            elif self.accept("not"):
                self.expect("null")
                lists.append(("force_not_null", self.parse_name_list()))
            else:
                self.expect("null")
                lists.append(("force_null", self.parse_name_list()))
            return
        else:
            self.accept("as")
            value = self.parse_string()
        options.append(StorageOption(name, value, self.token_span(at)))

    # --- the rest ---

    def parse_listen(self) -> Statement:
        """LISTEN."""
        start = self.pos
        self.pos += 1
        return Listen(self.parse_name(), self.span(start))

    def parse_unlisten(self) -> Statement:
        """UNLISTEN."""
        start = self.pos
        self.pos += 1
        channel = "" if self.accept("*") else self.parse_name()
        return Unlisten(channel, self.span(start))

    def parse_notify(self) -> Statement:
        """NOTIFY."""
        start = self.pos
        self.pos += 1
        channel = self.parse_name()
        payload = self.parse_string() if self.accept(",") else ""
        return Notify(channel, payload, self.span(start))

    def parse_lock(self) -> Statement:
        """LOCK TABLE."""
        start = self.pos
        self.pos += 1
        self.accept("table")
        names = tuple(table.name for table in self.parse_list(self.parse_relation))
        mode = "access exclusive"
        if self.accept("in"):
            for words in _LOCK_MODES:
                if self.accept_all(*words, "mode"):
                    mode = " ".join(words)
                    break
            else:
                raise self.unexpected()
        nowait = self.accept("nowait")
        return LockTable(names, mode, nowait, self.span(start))

    def parse_analyze(self) -> Statement:
        """ANALYZE."""
        start = self.pos
        self.pos += 1
        options: list[StorageOption] = []
        at = self.pos
        if self.kinds[at] == "(":
            options = self.parse_options()
        elif self.accept("verbose"):
            options.append(StorageOption("verbose", None, self.token_span(at)))
        return Analyze(self._maintained(), tuple(options), self.span(start))

    def _maintained(self) -> tuple[tuple[QualifiedName, tuple[str, ...]], ...]:
        return () if self.at_end() else self.parse_list(self._table_and_columns)

    def _table_and_columns(self) -> tuple[QualifiedName, tuple[str, ...]]:
        name = self.parse_qualified_name()
        return name, self.parse_paren_names() if self.kinds[self.pos] == "(" else ()

    def parse_vacuum(self) -> Statement:
        """VACUUM."""
        start = self.pos
        self.pos += 1
        options: list[StorageOption] = []
        if self.kinds[self.pos] == "(":
            options = self.parse_options()
        else:
            for words in (("full",), ("freeze",), ("verbose",), ("analyze", "analyse")):
                at = self.pos
                if self.accept_any(words):
                    options.append(StorageOption(words[0], None, self.token_span(at)))
        return Vacuum(self._maintained(), tuple(options), self.span(start))

    def parse_checkpoint(self) -> Statement:
        """CHECKPOINT."""
        self.pos += 1
        return Checkpoint(self.token_span(self.pos - 1))

    def parse_do(self) -> Statement:
        """DO: a string and possibly LANGUAGE, in either order."""
        start = self.pos
        self.pos += 1
        if self.at_end():
            raise self.unexpected()
        while not self.at_end():
            if self.accept("language"):
                self.parse_word_or_string()
            else:
                self.parse_string()
        return Do(self.span(start))
