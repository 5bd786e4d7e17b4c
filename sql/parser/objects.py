"""CREATE, ALTER, DROP and COMMENT by kind of object; schemas, databases, sequences and views.

What PostgreSQL has and nodedb has not becomes ``UnsupportedDdl`` with the leading key words.
Source: PostgreSQL docs, "SQL Commands".
"""

from typing import ClassVar, Final, Literal

from sql.ast.ddl import (
    AlterDatabase,
    AlterOwner,
    AlterSettings,
    Comment,
    CreateDatabase,
    CreateExtension,
    CreateIndex,
    CreateSchema,
    CreateSequence,
    CreateTable,
    CreateView,
    DdlStatement,
    Drop,
    Grant,
    ObjectKind,
    OptionValue,
    Reindex,
    Rename,
    RoleSpec,
    StorageOption,
    Truncate,
)
from sql.ast.query import QualifiedName
from sql.ast.utility import AlterCluster, AlterSystem, Statement
from sql.errors import SqlSyntaxError
from sql.parser.cursor import NON_RESERVED, qualified
from sql.parser.roles import RoleParser

_UNSUPPORTED_OBJECTS: Final = (
    ("access", "method"),
    ("aggregate",),
    ("cast",),
    ("collation",),
    ("constraint", "trigger"),
    ("conversion",),
    ("default", "conversion"),
    ("domain",),
    ("event", "trigger"),
    ("foreign", "data", "wrapper"),
    ("foreign", "table"),
    ("function",),
    ("group",),
    ("large", "object"),
    ("operator", "class"),
    ("operator", "family"),
    ("operator",),
    ("policy",),
    ("procedure",),
    ("publication",),
    ("routine",),
    ("rule",),
    ("server",),
    ("statistics",),
    ("subscription",),
    ("tablespace",),
    ("text", "search", "configuration"),
    ("text", "search", "dictionary"),
    ("text", "search", "parser"),
    ("text", "search", "template"),
    ("transform",),
    ("trigger",),
    ("type",),
    ("trusted",),
    ("procedural", "language"),
    ("language",),
    ("extension",),
    ("materialized", "view"),
    ("assertion",),
)
_SIMPLE_DROPS: Final[tuple[tuple[tuple[str, ...], ObjectKind], ...]] = (
    (("table",), "table"),
    (("sequence",), "sequence"),
    (("view",), "view"),
    (("materialized", "view"), "materialized view"),
    (("index",), "index"),
    (("type",), "type"),
    (("domain",), "domain"),
    (("schema",), "schema"),
    (("extension",), "extension"),
    (("language",), "language"),
    (("procedural", "language"), "language"),
)
_SINGLE_NAME_KINDS: Final = frozenset(
    ("schema", "database", "role", "extension", "tablespace", "language")
)
_COMMENT_KINDS: Final[dict[str, ObjectKind]] = {
    "table": "table",
    "index": "index",
    "view": "view",
    "sequence": "sequence",
    "schema": "schema",
    "database": "database",
    "role": "role",
    "type": "type",
    "domain": "domain",
    "extension": "extension",
    "tablespace": "tablespace",
    "language": "language",
}


class ObjectParser(RoleParser):
    """DDL by kind of object."""

    __slots__ = ()

    # --- CREATE ---

    def parse_create(self) -> Statement:
        """CREATE of anything."""
        start = self.pos
        self.pos += 1
        or_replace = self.accept_words("or", "replace")
        temporary = unlogged = False
        if self.accept_any(("local", "global")):
            self.expect_any(("temporary", "temp"))
            temporary = True
        elif self.accept_any(("temporary", "temp")):
            temporary = True
        elif self.accept("unlogged"):
            unlogged = True
        kind = self.kinds[self.pos]
        if kind == "view" or (kind == "recursive" and self.kinds[self.pos + 1] == "view"):
            view = self._create_view(start, or_replace=or_replace, temporary=temporary)
            if unlogged:
                message = "views cannot be unlogged because they do not have storage"
                raise SqlSyntaxError(message)
            return view
        allowed = ("table", "sequence") if not unlogged else ("table", "sequence", "materialized")
        if (temporary or unlogged) and kind not in allowed:
            raise self.unexpected()
        if or_replace and kind in _NEVER_REPLACED:
            raise self.unexpected()
        if kind == "table":
            self.pos += 1
            return self.parse_create_table(start, temporary=temporary, unlogged=unlogged)
        if kind == "sequence":
            self.pos += 1
            if_not_exists = self.accept_if_not_exists()
            name = self.parse_qualified_name()
            options = self.parse_sequence_options()
            return CreateSequence(name, options, if_not_exists, temporary, self.span(start))
        method = _CREATES.get(kind)
        if method is not None:
            self.pos += 1
            return method(self, start)
        return self._unsupported_object("CREATE", start)

    def _unsupported_object(self, verb: str, start: int) -> DdlStatement:
        for words in _UNSUPPORTED_OBJECTS:
            if self.accept_all(*words):
                if self.at_end():
                    raise self.unexpected()
                return self.skip_statement(f"{verb} {' '.join(words).upper()}", start)
        raise self.unexpected()

    def parse_unsupported(self) -> Statement:
        """Skip a statement nodedb has not at all: CALL, CLUSTER, LOAD, MERGE..."""
        start = self.pos
        word = self.kinds[start]
        self.pos += 1
        if word == "import":
            self.expect_all("foreign", "schema")
            return self.skip_statement("IMPORT FOREIGN SCHEMA", start)
        if word == "security":
            self.expect("label")
            return self.skip_statement("SECURITY LABEL", start)
        if word == "refresh":
            self.expect_all("materialized", "view")
            return self.skip_statement("REFRESH MATERIALIZED VIEW", start)
        if self.at_end() and word != "cluster":
            raise self.unexpected()
        return self.skip_statement(word.upper(), start)

    def _create_unique_index(self, start: int) -> DdlStatement:
        self.expect("index")
        return self.parse_create_index(start, unique=True)

    def _create_index(self, start: int) -> DdlStatement:
        return self.parse_create_index(start, unique=False)

    def _create_view(self, start: int, *, or_replace: bool, temporary: bool) -> CreateView:
        recursive = self.accept("recursive")
        self.expect("view")
        name = self.parse_qualified_name()
        columns: tuple[str, ...] = ()
        if recursive or self.kinds[self.pos] == "(":
            columns = self.parse_paren_names()
        options: tuple[StorageOption, ...] = ()
        if self.accept("with"):
            options = self.parse_storage_options()
        self.expect("as")
        query = self.parse_query()
        self.intos.clear()  # Refused when it is carried out, as PostgreSQL does.
        check: Literal["", "local", "cascaded"] = ""
        at = self.pos
        if self.accept("with"):
            check = "local" if self.accept_any(("local", "cascaded")) == "local" else "cascaded"
            self.expect_all("check", "option")
            if recursive:
                raise self.not_supported("WITH CHECK OPTION on recursive views", at)
        return CreateView(
            name, query, columns, or_replace, temporary, recursive, options, check, self.span(start)
        )

    def _create_schema(self, start: int) -> CreateSchema:
        if_not_exists = self.accept_if_not_exists()
        name = "" if self.kinds[self.pos] == "authorization" else self.parse_name()
        role: RoleSpec | None = None
        if self.accept("authorization"):
            role = self.parse_role_spec()
            name = name or role.name
        elements: list[CreateTable | CreateView | CreateIndex | CreateSequence | Grant] = []
        at = self.pos
        while not self.at_end():
            if self.kinds[self.pos] not in ("create", "grant"):
                raise self.unexpected()
            element_at = self.pos
            element = self.parse_statement()
            if not isinstance(
                element, CreateTable | CreateView | CreateIndex | CreateSequence | Grant
            ):
                raise self.unexpected(element_at + 1)
            elements.append(element)
        if if_not_exists and elements:
            raise self.not_supported_text(
                "CREATE SCHEMA IF NOT EXISTS cannot include schema elements", at
            )
        return CreateSchema(name, if_not_exists, role, tuple(elements), self.span(start))

    def _create_database(self, start: int) -> CreateDatabase:
        name = self.parse_name()
        self.accept("with")
        return CreateDatabase(name, self._database_options(), self.span(start))

    def _database_options(self) -> tuple[StorageOption, ...]:
        options: list[StorageOption] = []
        while not self.at_end():
            at = self.pos
            if self.accept_all("connection", "limit"):
                name = "connection_limit"
            elif self.kinds[at] in (
                "IDENT",
                "encoding",
                "location",
                "owner",
                "tablespace",
                "template",
            ):
                name = self.parse_name()
            else:
                raise self.unexpected()
            self.accept("=")
            value: OptionValue = None
            if not self.accept("default"):
                value = self._database_value()
            if any(option.name == name for option in options):
                raise self.error_at("conflicting or redundant options", at)
            options.append(StorageOption(name, value, self.token_span(at)))
        return tuple(options)

    def _database_value(self) -> OptionValue:
        if self.kinds[self.pos] in ("ICONST", "FCONST", "+", "-"):
            return self.parse_number()
        if self.accept_any(("true", "on")):
            return True
        if self.accept("false"):
            return False
        return self.parse_word_or_string()

    def _create_extension(self, start: int) -> CreateExtension:
        if_not_exists = self.accept_if_not_exists()
        name = self.parse_name()
        self.accept("with")
        while not self.at_end():
            word = self.expect_any(("schema", "version", "cascade", "from"))
            if word == "schema":
                self.parse_name()
            elif word == "version":
                self.parse_word_or_string()
            elif word == "from":
                message = "CREATE EXTENSION ... FROM is no longer supported"
                raise self.not_supported_text(message, self.pos - 1)
        return CreateExtension(name, if_not_exists, self.span(start))

    def _create_role(self, start: int) -> DdlStatement:
        kind = self.kinds[self.pos - 1]
        return self.parse_create_role(start, kind)  # type: ignore[arg-type]

    # --- ALTER ---

    def parse_alter(self) -> Statement:
        """ALTER of anything."""
        start = self.pos
        self.pos += 1
        kind = self.kinds[self.pos]
        if kind in ("table", "index", "view", "sequence"):
            self.pos += 1
            return self.parse_alter_relation(start, kind, kind)  # type: ignore[arg-type]
        if self.accept_words("materialized", "view"):
            return self.parse_alter_relation(start, "view", "materialized view")
        if kind in ("role", "user", "group"):
            self.pos += 1
            return self.parse_alter_role(start, kind)  # type: ignore[arg-type]
        if kind == "schema":
            self.pos += 1
            return self._alter_schema(start)
        if kind == "database":
            self.pos += 1
            return self._alter_database(start)
        if self.accept("system"):
            if self.kinds[self.pos] not in ("set", "reset"):
                raise self.unexpected()
            name, values = self.parse_set_reset()
            return AlterSystem(name, values, self.span(start))
        if self.accept_words("default", "privileges"):
            return self.parse_alter_default_privileges(start)
        if kind == "cluster" or (kind == "IDENT" and self.values[self.pos] == "node"):
            return self._alter_cluster(start)
        return self._unsupported_object("ALTER", start)

    def _alter_cluster(self, start: int) -> AlterCluster:
        """ALTER CLUSTER and ALTER NODE n, both with SET or RESET."""
        self.pos += 1
        node_id = 0
        if self.kinds[self.pos - 1] != "cluster":
            node_id = self.parse_integer()
            if not node_id:
                raise self.error_at("node_id must be above 0", self.pos - 1)
        if self.kinds[self.pos] not in ("set", "reset"):
            raise self.unexpected()
        at = self.pos + 1
        name, values = self.parse_set_reset()
        return AlterCluster(node_id, name, values, self.span(start), self.token_span(at))

    def _alter_schema(self, start: int) -> DdlStatement:
        name = self.parse_single_name()
        if self.accept("rename"):
            self.expect("to")
            new_name = self.parse_name()
            return Rename("schema", name, new_name, relation_kind="schema", span=self.span(start))
        self.expect_all("owner", "to")
        return AlterOwner("schema", name, self.parse_role_spec(), self.span(start))

    def _alter_database(self, start: int) -> DdlStatement:
        name = self.parse_single_name()
        kind, following = self.kinds[self.pos], self.kinds[self.pos + 1]
        if kind == "rename":
            self.pos += 1
            self.expect("to")
            new_name = self.parse_name()
            span = self.span(start)
            return Rename("database", name, new_name, relation_kind="database", span=span)
        if kind == "owner" and following == "to":
            self.pos += 2
            return AlterOwner("database", name, self.parse_role_spec(), self.span(start))
        if kind == "refresh":
            return self.skip_statement("ALTER DATABASE REFRESH COLLATION VERSION", start)
        if kind == "set" and following == "tablespace":
            self.pos += 2
            at = self.pos
            option = StorageOption("tablespace", self.parse_name(), self.token_span(at))
            return AlterDatabase(name.name, (option,), self.span(start))
        if kind in ("set", "reset"):
            setting, values = self.parse_set_reset()
            return AlterSettings(None, name.name, setting, values, span=self.span(start))
        self.accept("with")
        return AlterDatabase(name.name, self._database_options(), self.span(start))

    # --- DROP, TRUNCATE, REINDEX, COMMENT ---

    def parse_drop(self) -> Statement:
        """DROP of anything."""
        start = self.pos
        self.pos += 1
        word = self.kinds[self.pos]
        if word in ("role", "user", "group"):
            self.pos += 1
            return self.parse_drop_role(start)
        if word == "owned":
            self.pos += 1
            return self.parse_drop_owned(start)
        if word == "database":
            return self._drop_database(start)
        if word in ("function", "procedure", "routine"):
            return self._drop_function(start)
        kind = next((kind for words, kind in _SIMPLE_DROPS if self.accept_all(*words)), None)
        if kind is None:
            return self._unsupported_object("DROP", start)
        concurrently = kind == "index" and self.accept("concurrently")
        if_exists = self.accept_if_exists()
        single = kind in _SINGLE_NAME_KINDS
        names = self.parse_list(self.parse_single_name if single else self.parse_dotted_name)
        behavior = self.parse_behavior()
        return Drop(
            kind, names, if_exists, behavior, concurrently=concurrently, span=self.span(start)
        )

    def parse_dotted_name(self) -> QualifiedName:
        """any_name as a QualifiedName."""
        start = self.pos
        parts = list(self.parse_any_name())
        return qualified(parts, self.span(start))

    def _drop_function(self, start: int) -> Drop:
        self.pos += 1
        if_exists = self.accept_if_exists()
        names = self.parse_list(self.parse_function_name)
        return Drop("function", names, if_exists, self.parse_behavior(), span=self.span(start))

    def _drop_database(self, start: int) -> Drop:
        self.pos += 1
        if_exists = self.accept_if_exists()
        name = self.parse_single_name()
        force = False
        has_with = self.accept("with")
        if has_with or self.kinds[self.pos] == "(":
            self.expect("(")
            self.expect("force")
            while self.accept(","):
                self.expect("force")
            self.expect(")")
            force = True
        return Drop("database", (name,), if_exists, force=force, span=self.span(start))

    def parse_truncate(self) -> Statement:
        """TRUNCATE."""
        start = self.pos
        self.pos += 1
        self.accept("table")
        names = tuple(table.name for table in self.parse_list(self.parse_relation))
        restart = False
        if word := self.accept_any(("restart", "continue")):
            self.expect("identity")
            restart = word == "restart"
        return Truncate(names, restart, self.parse_behavior(), self.span(start))

    def parse_reindex(self) -> Statement:
        """REINDEX."""
        start = self.pos
        self.pos += 1
        concurrently = False
        if self.kinds[self.pos] == "(":
            concurrently = any(
                option.name == "concurrently" and option.value not in ("false", "off", 0)
                for option in self.parse_options()
            )
        kind = self.expect_any(("index", "table", "schema", "database", "system"))
        concurrently = self.accept("concurrently") or concurrently
        if kind in ("index", "table"):
            name = self.parse_qualified_name()
        else:
            name = self.parse_single_name()
        return Reindex(kind, name, concurrently, self.span(start))

    def parse_comment(self) -> Statement:
        """COMMENT ON."""
        start = self.pos
        self.pos += 1
        self.expect("on")
        word = self.kinds[self.pos]
        sub_name = ""
        if self.accept_words("materialized", "view"):
            kind: ObjectKind = "materialized view"
            name = self.parse_dotted_name()
        elif word == "column":
            self.pos += 1
            kind = "column"
            at = self.pos
            parts = list(self.parse_any_name())
            sub_name = parts.pop()
            if not parts and self.kinds[self.pos] == "is":
                raise SqlSyntaxError("column name must be qualified")
            name = qualified(parts or [sub_name], self.span(at))
        elif word == "constraint":
            self.pos += 1
            kind = "constraint"
            sub_name = self.parse_name()
            self.expect("on")
            self.accept("domain")
            name = self.parse_dotted_name()
        elif word in ("function", "procedure", "routine"):
            self.pos += 1
            kind, name = "function", self.parse_function_name()
        elif word in _COMMENT_KINDS:
            self.pos += 1
            kind, name = _COMMENT_KINDS[word], self.parse_dotted_name()
        else:
            return self._unsupported_object("COMMENT ON", start)
        self.expect("is")
        text = None if self.accept("null") else self.parse_string()
        return Comment(kind, name, text, sub_name, self.span(start))

    CREATES: ClassVar = {
        "unique": _create_unique_index,
        "index": _create_index,
        "schema": _create_schema,
        "database": _create_database,
        "extension": _create_extension,
        "role": _create_role,
        "user": _create_role,
        "group": _create_role,
    }


_CREATES: Final = ObjectParser.CREATES
_NEVER_REPLACED: Final = NON_RESERVED - {
    "aggregate",
    "function",
    "procedure",
    "language",
    "procedural",
    "trusted",
    "rule",
    "trigger",
    "transform",
    "constraint",
} | {"table", "unique"}
