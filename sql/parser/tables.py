"""CREATE TABLE, CREATE TABLE AS, CREATE INDEX, and the columns and constraints ALTER TABLE shares.

Source: PostgreSQL docs, "CREATE TABLE", "CREATE TABLE AS", "CREATE INDEX".
"""

from typing import Final, Literal

from msgspec.structs import replace

from sql.ast.ddl import (
    CheckConstraint,
    ColumnConstraint,
    ColumnDefinition,
    CreateIndex,
    CreateTable,
    CreateTableAs,
    DdlStatement,
    DefaultConstraint,
    ForeignKeyConstraint,
    GeneratedConstraint,
    IdentityConstraint,
    IndexElement,
    LikeClause,
    NotNullConstraint,
    NullConstraint,
    OptionValue,
    ReferentialAction,
    SequenceOptions,
    StorageOption,
    TableConstraint,
    TableElement,
    UniqueConstraint,
    UnsupportedDdl,
)
from sql.ast.query import QualifiedName
from sql.errors import FeatureNotSupported
from sql.parser.cursor import COL_ID
from sql.parser.session import SessionParser
from sql.span import NO_SPAN, Span

CONSTRAINT_STARTS: Final = frozenset(
    ("constraint", "check", "unique", "primary", "exclude", "foreign")
)
_LIKE_WHAT: Final = (
    "comments",
    "compression",
    "constraints",
    "defaults",
    "identity",
    "generated",
    "indexes",
    "statistics",
    "storage",
    "all",
)
_SEQUENCE_WORDS: Final = frozenset(
    (
        "as",
        "cache",
        "cycle",
        "no",
        "increment",
        "maxvalue",
        "minvalue",
        "owned",
        "sequence",
        "start",
        "restart",
    )
)


class TableParser(SessionParser):
    """Tables and indexes."""

    __slots__ = ()

    def skip_statement(self, what: str, start: int) -> UnsupportedDdl:
        """Skip to the semicolon; lexical errors on the way still count."""
        while not self.at_end():
            if self.kinds[self.pos] == "ERROR":
                raise self.unexpected()
            self.pos += 1
        return UnsupportedDdl(what, self.span(start))

    def parse_sequence_options(self, *, parenthesised: bool = False) -> SequenceOptions:
        """SeqOptList, possibly empty; a repeated option is 42601."""
        raise NotImplementedError

    # --- CREATE TABLE; ``pos`` is behind the word TABLE ---

    def parse_create_table(self, start: int, *, temporary: bool, unlogged: bool) -> DdlStatement:
        """CREATE TABLE and CREATE TABLE AS."""
        if_not_exists = self.accept_if_not_exists()
        name = self.parse_qualified_name()
        kind = self.kinds[self.pos]
        if kind in ("of", "partition") and self.kinds[self.pos + 1] not in ("by",):
            word = "CREATE TABLE ... OF" if kind == "of" else "CREATE TABLE ... PARTITION OF"
            return self.skip_statement(word, start)
        is_query = kind != "(" or (
            self.kinds[self.pos + 1] in COL_ID and self.kinds[self.pos + 2] in (",", ")")
        )
        if is_query:
            columns = self.parse_paren_names() if kind == "(" else ()
            return self._create_table_as(
                start, name, columns, if_not_exists=if_not_exists, temporary=temporary
            )
        self.pos += 1
        elements: tuple[TableElement, ...] = ()
        if self.kinds[self.pos] != ")":
            elements = self.parse_list(self._table_element)
        self.expect(")")
        inherits: tuple[QualifiedName, ...] = ()
        if self.accept("inherits"):
            self.expect("(")
            inherits = self.parse_list(self.parse_qualified_name)
            self.expect(")")
        partition_by = self._partition_by()
        options, on_commit, tablespace = self._table_suffixes()
        return CreateTable(
            name,
            elements,
            if_not_exists,
            temporary,
            unlogged,
            options,
            on_commit,
            inherits,
            partition_by,
            tablespace,
            self.span(start),
        )

    def _partition_by(self) -> bool:
        if not self.accept("partition"):
            return False
        self.expect("by")
        self.parse_name()
        self.expect("(")
        self.parse_list(self._index_element)
        self.expect(")")
        return True

    def _table_suffixes(
        self,
    ) -> tuple[tuple[StorageOption, ...], Literal["", "preserve rows", "delete rows", "drop"], str]:
        if self.accept("using"):
            self.parse_name()
        options: tuple[StorageOption, ...] = ()
        if self.kinds[self.pos] == "with" and self.kinds[self.pos + 1] != "ordinality":
            self.pos += 1
            options = self.parse_storage_options()
        elif self.accept("without"):
            self.expect("oids")
        on_commit: Literal["", "preserve rows", "delete rows", "drop"] = ""
        if self.accept("on"):
            self.expect("commit")
            if self.accept("drop"):
                on_commit = "drop"
            elif self.expect_any(("preserve", "delete")) == "preserve":
                self.expect("rows")
                on_commit = "preserve rows"
            else:
                self.expect("rows")
                on_commit = "delete rows"
        tablespace = self.parse_name() if self.accept("tablespace") else ""
        return options, on_commit, tablespace

    def _create_table_as(
        self,
        start: int,
        name: QualifiedName,
        columns: tuple[str, ...],
        *,
        if_not_exists: bool,
        temporary: bool,
    ) -> CreateTableAs:
        options, on_commit, _ = self._table_suffixes()
        self.expect("as")
        if self.kinds[self.pos] == "execute":
            raise self.not_supported("CREATE TABLE AS EXECUTE", self.pos)
        query = self.parse_query()
        with_data = self.parse_with_data()
        return CreateTableAs(
            name,
            query,
            columns,
            if_not_exists,
            temporary,
            with_data,
            options,
            on_commit=on_commit,
            span=self.span(start),
        )

    def parse_with_data(self) -> bool:
        """``[WITH [NO] DATA]``."""
        if not self.accept("with"):
            return True
        is_no = self.accept("no")
        self.expect("data")
        return not is_no

    def parse_storage_options(self) -> tuple[StorageOption, ...]:
        """reloptions: ``(name [= value], ...)``; a name may have a namespace."""
        self.expect("(")
        options = self.parse_list(self._storage_option)
        self.expect(")")
        return options

    def _storage_option(self) -> StorageOption:
        at = self.pos
        name = self.parse_label()
        if self.accept("."):
            name += "." + self.parse_label()
        value = self.parse_definition_value() if self.accept("=") else None
        return StorageOption(name, value, self.token_span(at))

    def parse_definition_value(self) -> OptionValue:
        """def_arg: a number, a string, a word, NONE."""
        kind = self.kinds[self.pos]
        if kind in ("ICONST", "FCONST", "+", "-"):
            return self.parse_number()
        if kind == "SCONST":
            return self.parse_string()
        return self.parse_label()

    # --- columns ---

    def _table_element(self) -> TableElement:
        kind = self.kinds[self.pos]
        if kind == "like":
            return self._like_clause()
        if kind in CONSTRAINT_STARTS:
            return self.parse_table_constraint()
        return self.parse_column_definition()

    def _like_clause(self) -> LikeClause:
        start = self.pos
        self.pos += 1
        table = self.parse_qualified_name()
        options: list[tuple[bool, str]] = []
        while word := self.accept_any(("including", "excluding")):
            options.append((word == "including", self.expect_any(_LIKE_WHAT)))
        return LikeClause(table, tuple(options), self.span(start))

    def parse_column_definition(self) -> ColumnDefinition:
        """Parse columnDef."""
        start = self.pos
        name = self.parse_name()
        type_name = self.parse_type_name()
        if self.kinds[self.pos] == "compression":
            self.pos += 1
            self.parse_label()
        collation: tuple[str, ...] = ()
        collation_span = NO_SPAN
        constraints: list[ColumnConstraint] = []
        while True:
            at = self.pos
            kind = self.kinds[at]
            if kind == "collate":
                self.pos += 1
                if collation:
                    raise self.error_at("multiple COLLATE clauses not allowed", at)
                collation = self.parse_any_name()
                collation_span = self.span(at)
                continue
            if kind in ("deferrable", "initially") or (
                kind == "not" and self.kinds[at + 1] == "deferrable"
            ):
                self._column_constraint_attribute(constraints)
                continue
            constraint = self._column_constraint()
            if constraint is None:
                break
            constraints.append(constraint)
        return ColumnDefinition(
            name,
            type_name,
            collation,
            tuple(constraints),
            Span(self.starts[start], self.ends[start]),
            collation_span,
        )

    def _column_constraint_attribute(self, constraints: list[ColumnConstraint]) -> None:
        """Apply DEFERRABLE and its like to the constraint before them."""
        at = self.pos
        word, deferrable, deferred = self._attribute()
        last = constraints[-1] if constraints else None
        if not isinstance(last, UniqueConstraint | ForeignKeyConstraint):
            raise self.error_at(f"misplaced {word} clause", at)
        if deferrable is not None:
            if last.deferrable and deferrable:
                message = "multiple DEFERRABLE/NOT DEFERRABLE clauses not allowed"
                raise self.error_at(message, at)
            if not deferrable and last.initially_deferred:
                message = "constraint declared INITIALLY DEFERRED must be DEFERRABLE"
                raise self.error_at(message, at)
            last = replace(last, deferrable=deferrable)
        elif deferred:
            # INITIALLY DEFERRED alone implies DEFERRABLE.
            last = replace(last, deferrable=True, initially_deferred=True)
        constraints[-1] = last

    def _attribute(self) -> tuple[str, bool | None, bool | None]:
        """Parse one constraint attribute as (its words, deferrable, initially deferred)."""
        if self.accept("deferrable"):
            return "DEFERRABLE", True, None
        if self.accept("not"):
            self.expect("deferrable")
            return "NOT DEFERRABLE", False, None
        self.expect("initially")
        if self.expect_any(("deferred", "immediate")) == "deferred":
            return "INITIALLY DEFERRED", None, True
        return "INITIALLY IMMEDIATE", None, False

    def _column_constraint(self) -> ColumnConstraint | None:
        start = self.pos
        name = self.parse_name() if self.accept("constraint") else ""
        kind = self.kinds[self.pos]
        self.pos += 1
        if kind == "not":
            self.expect("null")
            return NotNullConstraint(name, self.span(start))
        if kind == "null":
            return NullConstraint(self.span(start))
        if kind == "default":
            expression = self.parse_restricted_expression()
            return DefaultConstraint(expression, self.span(start))
        if kind == "generated":
            return self._generated(start)
        if kind == "check":
            self.expect("(")
            condition = self.parse_expression()
            self.expect(")")
            no_inherit = self.accept_words("no", "inherit")
            return CheckConstraint(condition, name, no_inherit=no_inherit, span=self.span(start))
        if kind in ("unique", "primary"):
            return self._unique(name, start, kind, is_column=True)
        if kind == "references":
            return self._references((), name, start)
        if name:
            raise self.unexpected(self.pos - 1)
        self.pos = start
        return None

    def _generated(self, start: int) -> ColumnConstraint:
        at = self.pos
        always = self.parse_generated_when()
        self.expect("as")
        if self.accept("identity"):
            options = SequenceOptions()
            if self.kinds[self.pos] == "(":
                options = self.parse_sequence_options(parenthesised=True)
            return IdentityConstraint(always, options, self.span(start))
        self.expect("(")
        expression = self.parse_expression()
        self.expect_all(")", "stored")
        if not always:
            message = "for a generated column, GENERATED ALWAYS must be specified"
            raise self.error_at(message, at)
        return GeneratedConstraint(expression, self.span(start))

    def parse_generated_when(self) -> bool:
        """Parse ``ALWAYS | BY DEFAULT``; true for ALWAYS."""
        if self.accept("always"):
            return True
        self.expect_all("by", "default")
        return False

    def _unique(self, name: str, start: int, kind: str, *, is_column: bool) -> UniqueConstraint:
        """Parse UNIQUE or PRIMARY KEY, behind its first word."""
        is_primary = kind == "primary"
        nulls_not_distinct = False
        if is_primary:
            self.expect("key")
        else:
            nulls_not_distinct = self._nulls_not_distinct()
        columns: tuple[str, ...] = ()
        include: tuple[str, ...] = ()
        options: tuple[StorageOption, ...] = ()
        if not is_column:
            if self.accept("using"):
                self.expect("index")
                return UniqueConstraint(
                    is_primary, (), name, using_index=self.parse_name(), span=self.span(start)
                )
            columns = self.parse_paren_names()
            include = self.parse_paren_names() if self.accept("include") else ()
        if self.kinds[self.pos] == "with":
            self.pos += 1
            options = self.parse_storage_options()
        if self.accept("using"):
            self.expect_all("index", "tablespace")
            self.parse_name()
        return UniqueConstraint(
            is_primary,
            columns,
            name,
            include,
            nulls_not_distinct,
            options=options,
            span=self.span(start),
        )

    def _nulls_not_distinct(self) -> bool:
        if not self.accept("nulls"):
            return False
        negated = self.accept("not")
        self.expect("distinct")
        return negated

    def _references(self, columns: tuple[str, ...], name: str, start: int) -> ForeignKeyConstraint:
        """Parse a foreign key behind the word REFERENCES."""
        table = self.parse_qualified_name()
        referenced = self.parse_paren_names() if self.kinds[self.pos] == "(" else ()
        match: Literal["simple", "full", "partial"] = "simple"
        if self.accept("match"):
            word = self.expect_any(("simple", "full", "partial"))
            if word == "partial":
                message = "MATCH PARTIAL not yet implemented"
                raise FeatureNotSupported(message, position=self.starts[self.pos - 2] + 1)
            match = "full" if word == "full" else "simple"
        on_delete: ReferentialAction = "no action"
        on_update: ReferentialAction = "no action"
        delete_columns: tuple[str, ...] = ()
        seen = ""
        while self.kinds[self.pos] == "on" and len(seen) < 12:
            at = self.pos
            self.pos += 1
            event = self.expect_any(("delete", "update"))
            if event == seen:
                raise self.unexpected(at + 1)
            action, set_columns = self._referential_action()
            if event == "delete":
                on_delete, delete_columns = action, set_columns
            else:
                if set_columns:
                    message = (
                        f"a column list with {action.upper()} "
                        "is only supported for ON DELETE actions"
                    )
                    raise FeatureNotSupported(message, position=self.starts[at] + 1)
                on_update = action
            if seen:
                break
            seen = event
        return ForeignKeyConstraint(
            table,
            referenced,
            columns,
            name,
            match,
            on_delete,
            delete_columns,
            on_update,
            span=self.span(start),
        )

    def _referential_action(self) -> tuple[ReferentialAction, tuple[str, ...]]:
        word = self.expect_any(("no", "restrict", "cascade", "set"))
        if word == "no":
            self.expect("action")
            return "no action", ()
        if word == "restrict":
            return "restrict", ()
        if word == "cascade":
            return "cascade", ()
        is_null = self.expect_any(("null", "default")) == "null"
        columns = self.parse_paren_names() if self.kinds[self.pos] == "(" else ()
        return "set null" if is_null else "set default", columns

    # --- table constraints ---

    def parse_table_constraint(self) -> TableConstraint:
        """TableConstraint with its attributes."""
        start = self.pos
        name = self.parse_name() if self.accept("constraint") else ""
        kind = self.expect_any(("check", "unique", "primary", "exclude", "foreign"))
        constraint: TableConstraint
        if kind == "check":
            self.expect("(")
            condition = self.parse_expression()
            self.expect(")")
            constraint = CheckConstraint(condition, name, span=self.span(start))
        elif kind == "exclude":
            raise self.not_supported("an exclusion constraint", self.pos - 1)
        elif kind == "foreign":
            self.expect("key")
            columns = self.parse_paren_names()
            self.expect("references")
            constraint = self._references(columns, name, start)
        else:
            constraint = self._unique(name, start, kind, is_column=False)
        return self._with_attributes(constraint, kind)

    def _with_attributes(self, constraint: TableConstraint, kind: str) -> TableConstraint:
        """ConstraintAttributeSpec after a table constraint."""
        deferrable: bool | None = None
        deferred: bool | None = None
        while True:
            at = self.pos
            word = self.kinds[at]
            following = self.kinds[at + 1]
            if word in ("deferrable", "initially") or (word == "not" and following == "deferrable"):
                _, may, initially = self._attribute()
                if (may is not None and deferrable not in (None, may)) or (
                    initially is not None and deferred not in (None, initially)
                ):
                    raise self.error_at("conflicting constraint properties", at)
                deferrable = may if may is not None else deferrable
                deferred = initially if initially is not None else deferred
                if deferred and deferrable is False:
                    raise self.error_at("conflicting constraint properties", at)
                if isinstance(constraint, CheckConstraint):
                    raise self._cannot_mark(kind, "DEFERRABLE", at)
            elif word == "not":
                self.pos += 1
                self.expect("valid")
                if isinstance(constraint, UniqueConstraint):
                    raise self._cannot_mark(kind, "NOT VALID", at)
                constraint = replace(constraint, not_valid=True)
            elif word == "no":
                self.pos += 1
                self.expect("inherit")
                if not isinstance(constraint, CheckConstraint):
                    raise self._cannot_mark(kind, "NO INHERIT", at)
                constraint = replace(constraint, no_inherit=True)
            else:
                break
        if not isinstance(constraint, CheckConstraint) and (deferrable or deferred):
            return replace(constraint, deferrable=True, initially_deferred=bool(deferred))
        return constraint

    def _cannot_mark(self, kind: str, what: str, at: int) -> FeatureNotSupported:
        name = {"primary": "PRIMARY KEY", "foreign": "FOREIGN KEY"}.get(kind, kind.upper())
        return FeatureNotSupported(
            f"{name} constraints cannot be marked {what}", position=self.starts[at] + 1
        )

    # --- CREATE INDEX; ``pos`` is behind the word INDEX ---

    def parse_create_index(self, start: int, *, unique: bool) -> DdlStatement:
        """CREATE [UNIQUE] INDEX."""
        concurrently = self.accept("concurrently")
        if_not_exists = self.accept_if_not_exists()
        name = ""
        if if_not_exists or self.kinds[self.pos] != "on":
            name = self.parse_name()
        self.expect("on")
        table = self.parse_relation().name
        method = self.parse_name() if self.accept("using") else "btree"
        self.expect("(")
        elements = self.parse_list(self._index_element)
        self.expect(")")
        include: tuple[str, ...] = ()
        if self.accept("include"):
            include = self.parse_paren_names()
        nulls_not_distinct = self._nulls_not_distinct()
        options: tuple[StorageOption, ...] = ()
        if self.accept("with"):
            options = self.parse_storage_options()
        tablespace = self.parse_name() if self.accept("tablespace") else ""
        where = self.parse_expression() if self.accept("where") else None
        return CreateIndex(
            name,
            table,
            elements,
            unique,
            concurrently,
            if_not_exists,
            method,
            include,
            nulls_not_distinct,
            options,
            where,
            tablespace,
            self.span(start),
        )

    def _index_element(self) -> IndexElement:
        start = self.pos
        expression = self.parse_index_expression()
        collation = self.parse_any_name() if self.accept("collate") else ()
        operator_class = ""
        if self.kinds[self.pos] in COL_ID:
            operator_class = ".".join(self.parse_any_name())
            if self.kinds[self.pos] == "(":
                self.parse_storage_options()
        descending = self.accept_any(("asc", "desc")) == "desc"
        nulls_first = self.parse_nulls_order()
        return IndexElement(
            expression, descending, nulls_first, collation, operator_class, self.span(start)
        )
