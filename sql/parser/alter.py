"""ALTER TABLE, INDEX, VIEW and SEQUENCE, and the sequence options.

Source: PostgreSQL docs, "ALTER TABLE", "CREATE SEQUENCE".
"""

from typing import ClassVar, Final, Literal

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
    AlterOwner,
    AlterSequence,
    AlterTable,
    AlterTableAction,
    DdlStatement,
    DropColumn,
    DropConstraint,
    ObjectKind,
    OwnerTo,
    Rename,
    ReplicaIdentity,
    ResetOptions,
    RoleSpec,
    RowSecurity,
    SequenceOptions,
    SetOptions,
    SetSchema,
    ValidateConstraint,
)
from sql.ast.query import QualifiedName
from sql.errors import SqlError
from sql.parser.tables import CONSTRAINT_STARTS, TableParser

RelationKind = Literal["table", "index", "view", "sequence"]
_UNSUPPORTED_ACTIONS: Final = {
    "attach": "ALTER TABLE ATTACH PARTITION",
    "detach": "ALTER TABLE DETACH PARTITION",
    "inherit": "ALTER TABLE INHERIT",
    "of": "ALTER TABLE OF",
}
_ROLE_WORDS: Final = frozenset(("current_user", "session_user", "current_role"))


class AlterParser(TableParser):
    """ALTER of relations."""

    __slots__ = ()

    # --- roles' names, which OWNER TO needs ---

    def parse_role_spec(self) -> RoleSpec:
        """RoleSpec: a name, PUBLIC, CURRENT_USER and its like; "none" is reserved."""
        at = self.pos
        kind = self.kinds[at]
        if kind in _ROLE_WORDS:
            self.pos += 1
            return RoleSpec(kind, span=self.token_span(at))  # type: ignore[arg-type]
        name = self.parse_non_reserved()
        span = self.token_span(at)
        if name == "public":
            return RoleSpec("public", span=span)
        if name == "none":
            raise self.reserved_role(name, at)
        return RoleSpec("name", name, span)

    def reserved_role(self, name: str, at: int) -> SqlError:
        """Return the 42939 for a role name PostgreSQL keeps for itself."""
        raise NotImplementedError

    # --- ALTER TABLE; ``pos`` is behind the kind's last word ---

    def parse_alter_relation(
        self, start: int, kind: RelationKind, object_kind: ObjectKind
    ) -> DdlStatement:
        """ALTER TABLE, INDEX, VIEW, MATERIALIZED VIEW and SEQUENCE."""
        if kind in ("table", "index") and self.kinds[self.pos] == "all":
            return self.skip_statement(f"ALTER {kind.upper()} ALL IN TABLESPACE", start)
        if_exists = self.accept_if_exists()
        table = self.parse_relation()
        name, word = table.name, self.kinds[self.pos]
        if word == "rename":
            return self._rename(start, kind, object_kind, name, if_exists=if_exists)
        if word == "set" and self.kinds[self.pos + 1] == "schema":
            self.pos += 2
            return SetSchema(object_kind, name, self.parse_name(), if_exists, self.span(start))
        if word == "depends" or (word == "no" and self.kinds[self.pos + 1] == "depends"):
            return self.skip_statement(f"ALTER {object_kind.upper()} DEPENDS ON EXTENSION", start)
        if word == "attach" and kind == "index":
            return self.skip_statement("ALTER INDEX ATTACH PARTITION", start)
        if kind == "sequence" and not (
            word in ("owner",)
            or (word == "set" and self.kinds[self.pos + 1] in ("logged", "unlogged"))
        ):
            options = self.parse_sequence_options()
            if options == SequenceOptions():
                raise self.unexpected()
            return AlterSequence(name, options, if_exists, self.span(start))
        if word in _UNSUPPORTED_ACTIONS:
            return self.skip_statement(_UNSUPPORTED_ACTIONS[word], start)
        actions = self.parse_list(self._action)
        if kind in ("view", "sequence") and len(actions) == 1 and isinstance(actions[0], OwnerTo):
            return AlterOwner(object_kind, name, actions[0].role, self.span(start))
        return AlterTable(name, actions, if_exists, table.only, kind, self.span(start))

    def _rename(
        self,
        start: int,
        kind: RelationKind,
        object_kind: ObjectKind,
        name: QualifiedName,
        *,
        if_exists: bool,
    ) -> Rename:
        self.pos += 1
        if self.accept("to"):
            new_name = self.parse_name()
            return Rename(object_kind, name, new_name, "", if_exists, object_kind, self.span(start))
        sub_kind: ObjectKind = "column"
        if kind == "table" and self.accept("constraint"):
            sub_kind = "constraint"
        elif kind in ("table", "view"):
            self.accept("column")
        else:
            raise self.unexpected()
        sub_name = self.parse_name()
        self.expect("to")
        new_name = self.parse_name()
        return Rename(sub_kind, name, new_name, sub_name, if_exists, object_kind, self.span(start))

    def _action(self) -> AlterTableAction:
        method = _ACTIONS.get(self.kinds[self.pos])
        if method is None:
            raise self.unexpected()
        self.pos += 1
        return method(self)

    def _add(self) -> AlterTableAction:
        if self.kinds[self.pos] in CONSTRAINT_STARTS:
            return AddConstraint(self.parse_table_constraint())
        self.accept("column")
        if_not_exists = self.accept_if_not_exists()
        return AddColumn(self.parse_column_definition(), if_not_exists)

    def _drop(self) -> AlterTableAction:
        if self.accept("constraint"):
            if_exists = self.accept_if_exists()
            return DropConstraint(self.parse_name(), if_exists, self.parse_behavior())
        self.accept("column")
        if_exists = self.accept_if_exists()
        return DropColumn(self.parse_name(), if_exists, self.parse_behavior())

    def _alter(self) -> AlterTableAction:
        if self.accept("constraint"):
            return self._alter_constraint()
        self.accept("column")
        is_number = self.kinds[self.pos] == "ICONST"
        name = str(self.parse_integer()) if is_number else self.parse_name()
        word = self.expect_any(("set", "drop", "type", "add", "reset", "restart"))
        if word == "set":
            return self._alter_column_set(name)
        if word == "drop":
            return self._alter_column_drop(name)
        if word == "type":
            return self._alter_column_type(name)
        if word == "add":
            self.expect("generated")
            always = self.parse_generated_when()
            self.expect_all("as", "identity")
            options = SequenceOptions()
            if self.kinds[self.pos] == "(":
                options = self.parse_sequence_options(parenthesised=True)
            return AlterColumnAddIdentity(name, always, options)
        if word == "restart":
            self.pos -= 1
            return self._alter_identity(name)
        for option in self.parse_storage_options():
            return AlterColumnOptions(name, "reset", option.name)
        raise self.unexpected()

    def _alter_constraint(self) -> AlterConstraint:
        name = self.parse_name()
        deferrable = deferred = False
        while self.kinds[self.pos] in ("deferrable", "initially", "not"):
            _, may, initially = self._attribute()
            deferrable = deferrable if may is None else may
            deferred = deferred if initially is None else initially
        return AlterConstraint(name, deferrable or deferred, deferred)

    def _alter_column_set(self, name: str) -> AlterTableAction:
        kind = self.kinds[self.pos]
        if kind == "default":
            self.pos += 1
            return AlterColumnDefault(name, self.parse_expression())
        if kind == "not":
            self.pos += 1
            self.expect("null")
            return AlterColumnNotNull(name, not_null=True)
        if kind == "data":
            self.pos += 1
            self.expect("type")
            return self._alter_column_type(name)
        if kind == "statistics":
            self.pos += 1
            return AlterColumnOptions(name, "statistics", str(self.parse_signed_integer()))
        if kind in ("storage", "compression"):
            self.pos += 1
            return AlterColumnOptions(name, kind, self.parse_label())
        if kind == "(":
            option = self.parse_storage_options()[0]
            return AlterColumnOptions(name, "set", f"{option.name}={option.value}")
        self.pos -= 1
        return self._alter_identity(name)

    def _alter_identity(self, name: str) -> AlterColumnSetIdentity:
        """alter_identity_column_option_list: SET GENERATED ..., SET option, RESTART."""
        always: bool | None = None
        options: dict[str, object] = {}
        first = True
        while self.kinds[self.pos] in ("set", "restart") or first:
            first = False
            if self.kinds[self.pos] == "restart":
                self.sequence_option(options)
                continue
            self.expect("set")
            if self.accept("generated"):
                always = self.parse_generated_when()
            elif self.kinds[self.pos] in (
                "restart",
                "owned",
                "sequence",
            ) or not self.sequence_option(options):
                raise self.unexpected()
        return AlterColumnSetIdentity(name, always, SequenceOptions(**options))  # type: ignore[arg-type]

    def _alter_column_drop(self, name: str) -> AlterTableAction:
        word = self.expect_any(("default", "not", "identity", "expression"))
        if word == "default":
            return AlterColumnDefault(name, None)
        if word == "not":
            self.expect("null")
            return AlterColumnNotNull(name, not_null=False)
        if_exists = self.accept_words("if", "exists")
        if word == "identity":
            return AlterColumnDropIdentity(name, if_exists)
        return AlterColumnDropExpression(name, if_exists)

    def _alter_column_type(self, name: str) -> AlterColumnType:
        type_name = self.parse_type_name()
        collation = self.parse_any_name() if self.accept("collate") else ()
        using = self.parse_expression() if self.accept("using") else None
        return AlterColumnType(name, type_name, using, collation)

    def _validate(self) -> AlterTableAction:
        self.expect("constraint")
        return ValidateConstraint(self.parse_name())

    def _set(self) -> AlterTableAction:
        word = self.kinds[self.pos]
        if word == "(":
            return SetOptions(self.parse_storage_options())
        self.pos += 1
        if word in ("logged", "unlogged"):
            return ReplicaIdentity(f"set {word}")
        if word == "without":
            what = self.expect_any(("oids", "cluster"))
            return ReplicaIdentity(f"set without {what}")
        if word in ("tablespace", "access"):
            if word == "access":
                self.expect("method")
            return ReplicaIdentity(f"set {word} {self.parse_name()}")
        raise self.unexpected(self.pos - 1)

    def _reset(self) -> AlterTableAction:
        return ResetOptions(tuple(option.name for option in self.parse_storage_options()))

    def _owner(self) -> AlterTableAction:
        self.expect("to")
        return OwnerTo(self.parse_role_spec())

    def _replica(self) -> AlterTableAction:
        self.expect("identity")
        word = self.expect_any(("nothing", "full", "default", "using"))
        if word == "using":
            self.expect("index")
            word = f"using index {self.parse_name()}"
        return ReplicaIdentity(word)

    def _enable(self) -> AlterTableAction:
        verb = self.kinds[self.pos - 1]
        if self.accept_words("row", "level", "security"):
            return RowSecurity(verb)
        if verb == "enable":
            self.accept_any(("always", "replica"))
        self.expect_any(("trigger", "rule"))
        raise self.not_supported(f"ALTER TABLE {verb.upper()} TRIGGER", self.pos - 1)

    def _force(self) -> AlterTableAction:
        self.expect_all("row", "level", "security")
        return RowSecurity("force")

    def _no(self) -> AlterTableAction:
        if self.accept("force"):
            self.expect_all("row", "level", "security")
            return RowSecurity("no force")
        self.expect("inherit")
        raise self.not_supported("ALTER TABLE NO INHERIT", self.pos - 2)

    def _cluster(self) -> AlterTableAction:
        self.expect("on")
        return ReplicaIdentity(f"cluster on {self.parse_name()}")

    # --- sequence options ---

    def parse_sequence_options(self, *, parenthesised: bool = False) -> SequenceOptions:
        """SeqOptList, possibly empty; a repeated option is 42601."""
        options: dict[str, object] = {}
        if parenthesised:
            self.expect("(")
            if self.kinds[self.pos] == ")":
                raise self.unexpected()
        while self.sequence_option(options):
            pass
        if parenthesised:
            self.expect(")")
        return SequenceOptions(**options)  # type: ignore[arg-type]

    def sequence_option(self, options: dict[str, object]) -> bool:
        """Parse one SeqOptElem into ``options`` by SequenceOptions' names; false if none."""
        at = self.pos
        kind = self.kinds[at]
        self.pos += 1
        found: list[tuple[str, object]]
        if kind == "as":
            found = [("data_type", self.parse_type_name())]
        elif kind == "increment":
            self.accept("by")
            found = [("increment", self._whole())]
        elif kind in ("minvalue", "maxvalue"):
            found = [("min_value" if kind == "minvalue" else "max_value", self._whole())]
        elif kind == "no":
            word = self.expect_any(("minvalue", "maxvalue", "cycle"))
            names = {"minvalue": "no_min_value", "maxvalue": "no_max_value"}
            found = [(names[word], True)] if word in names else [("cycle", False)]
        elif kind == "cycle":
            found = [("cycle", True)]
        elif kind == "cache":
            found = [("cache", self._whole())]
        elif kind == "start":
            self.accept("with")
            found = [("start", self._whole())]
        elif kind == "restart":
            has_with = self.accept("with")
            number = has_with or self.kinds[self.pos] in ("ICONST", "FCONST", "+", "-")
            found = [("restart", (self._whole() if number else None,))]
        elif kind == "owned":
            self.expect("by")
            found = [("owned_by", ("none",) if self.accept("none") else self.parse_any_name())]
        elif kind == "sequence":
            self.expect("name")
            found = [("sequence_name", self.parse_qualified_name())]
        else:
            self.pos = at
            return False
        for name, value in found:
            twin = _TWINS.get(name, name)
            if name in options or twin in options:
                raise self.error_at("conflicting or redundant options", at)
            options[name] = value
        return True

    def _whole(self) -> int:
        return int(self.parse_number())

    ACTIONS: ClassVar = {
        "add": _add,
        "drop": _drop,
        "alter": _alter,
        "validate": _validate,
        "set": _set,
        "reset": _reset,
        "owner": _owner,
        "replica": _replica,
        "enable": _enable,
        "disable": _enable,
        "force": _force,
        "no": _no,
        "cluster": _cluster,
    }


_ACTIONS: Final = AlterParser.ACTIONS
_TWINS: Final = {
    "min_value": "no_min_value",
    "no_min_value": "min_value",
    "max_value": "no_max_value",
    "no_max_value": "max_value",
}
