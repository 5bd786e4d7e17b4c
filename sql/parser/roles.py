"""Roles and privileges: CREATE, ALTER and DROP ROLE, GRANT and REVOKE, default privileges.

Source: PostgreSQL docs, "CREATE ROLE", "GRANT", "ALTER DEFAULT PRIVILEGES".
"""

from typing import Final, Literal

from msgspec.structs import replace

from sql.ast.ddl import (
    AlterDefaultPrivileges,
    AlterRole,
    AlterSettings,
    CreateRole,
    DdlStatement,
    DropOwned,
    DropRole,
    Grant,
    GrantRole,
    OptionValue,
    Privilege,
    ReassignOwned,
    Rename,
    RoleOption,
    RoleSpec,
)
from sql.ast.query import QualifiedName
from sql.errors import ReservedName, SqlError
from sql.parser.alter import AlterParser
from sql.parser.cursor import COL_ID, qualified

GrantKind = Literal[
    "table", "sequence", "schema", "database", "function", "language", "type", "domain"
]
_FLAGS: Final = {
    prefix + word: (option, not prefix)
    for word, option in {
        "superuser": "superuser",
        "createdb": "createdb",
        "createrole": "createrole",
        "login": "login",
        "replication": "replication",
        "bypassrls": "bypassrls",
        "inherit": "inherit",
    }.items()
    for prefix in ("", "no")
}
_ROLE_LISTS: Final = {"role": "role", "user": "role", "admin": "admin"}
_PLURAL_KINDS: Final[dict[str, GrantKind]] = {
    "tables": "table",
    "sequences": "sequence",
    "functions": "function",
    "procedures": "function",
    "routines": "function",
    "types": "type",
    "schemas": "schema",
}
_SINGULAR_KINDS: Final[dict[str, GrantKind]] = {
    "table": "table",
    "sequence": "sequence",
    "schema": "schema",
    "database": "database",
    "language": "language",
    "type": "type",
    "domain": "domain",
    "function": "function",
    "procedure": "function",
    "routine": "function",
}
_UNSUPPORTED_GRANTS: Final = frozenset(("foreign", "large", "parameter", "tablespace"))


class RoleParser(AlterParser):
    """Roles and privileges."""

    __slots__ = ()

    def reserved_role(self, name: str, at: int) -> SqlError:
        """Return the 42939 for a role name PostgreSQL keeps for itself."""
        return ReservedName(f'role name "{name}" is reserved', position=self.starts[at] + 1)

    def parse_role_id(self) -> str:
        """RoleId: a plain name."""
        at = self.pos
        role = self.parse_role_spec()
        if role.kind == "public":
            raise self.reserved_role("public", at)
        if role.kind != "name":
            message = f"{role.kind.upper()} cannot be used as a role name here"
            raise ReservedName(message, position=self.starts[at] + 1)
        return role.name

    def parse_roles(self) -> tuple[RoleSpec, ...]:
        """role_list."""
        return self.parse_list(self.parse_role_spec)

    # --- roles; ``pos`` is behind ROLE, USER or GROUP ---

    def parse_create_role(self, start: int, kind: Literal["role", "user", "group"]) -> DdlStatement:
        """CREATE ROLE, USER and GROUP."""
        if kind == "user" and self.kinds[self.pos] == "mapping":
            return self.skip_statement("CREATE USER MAPPING", start)
        name = self.parse_role_id()
        self.accept("with")
        options = self._role_options(create=True)
        return CreateRole(name, options, kind, self.span(start))

    def _role_options(self, *, create: bool) -> tuple[RoleOption, ...]:
        options: list[RoleOption] = []
        while not self.at_end():
            at = self.pos
            option = self._role_option(create=create)
            if any(option.name == other.name for other in options):
                raise self.error_at("conflicting or redundant options", at)
            options.append(replace(option, span=self.span(at)))
        return tuple(options)

    def _role_option(self, *, create: bool) -> RoleOption:
        at = self.pos
        kind = self.kinds[at]
        value = self.values[at]
        self.pos += 1
        if kind == "password":
            return RoleOption("password", None if self.accept("null") else self.parse_string())
        if kind == "encrypted":
            self.expect("password")
            return RoleOption("password", self.parse_string())
        if kind == "unencrypted":
            error = self.not_supported_text("UNENCRYPTED PASSWORD is no longer supported", at)
            error.hint = "Remove UNENCRYPTED to store the password in encrypted form instead."
            raise error
        if kind == "connection":
            self.expect("limit")
            return RoleOption("connection limit", self.parse_signed_integer())
        if kind == "valid":
            self.expect("until")
            return RoleOption("valid until", self.parse_string())
        if kind == "inherit" or (kind == "IDENT" and value in _FLAGS):
            return RoleOption(*_FLAGS[value])
        if kind == "sysid" and create:
            return RoleOption("sysid", self.parse_integer())
        if kind == "in" and create:
            self.expect_any(("role", "group"))
            return RoleOption("in role", roles=self.parse_roles())
        if kind in _ROLE_LISTS:
            if not create and kind != "user":
                raise self.unexpected(at)
            return RoleOption(_ROLE_LISTS[kind], roles=self.parse_roles())
        if kind == "IDENT":
            raise self.error_at(f'unrecognized role option "{value}"', at)
        raise self.unexpected(at)

    def parse_alter_role(self, start: int, kind: Literal["role", "user", "group"]) -> DdlStatement:
        """ALTER ROLE and USER: options, settings, rename; ALTER GROUP: members and rename."""
        if kind == "user" and self.kinds[self.pos] == "mapping":
            return self.skip_statement("ALTER USER MAPPING", start)
        if kind != "group" and self.accept("all"):
            return self._role_settings(None, start)
        role = self.parse_role_spec()
        if self.accept("rename"):
            self.expect("to")
            name = QualifiedName(role.name or role.kind, span=role.span)
            new_name = self.parse_role_id()
            return Rename("role", name, new_name, relation_kind="role", span=self.span(start))
        if kind == "group":
            is_grant = self.expect_any(("add", "drop")) == "add"
            self.expect("user")
            members = self.parse_roles()
            return GrantRole(is_grant, (role,), members, span=self.span(start), is_alter=True)
        if self.kinds[self.pos] in ("in", "set", "reset"):
            return self._role_settings(role, start)
        self.accept("with")
        return AlterRole(role, self._role_options(create=False), self.span(start))

    def _role_settings(self, role: RoleSpec | None, start: int) -> AlterSettings:
        database = ""
        if self.accept("in"):
            self.expect("database")
            database = self.parse_name()
        name, values = self.parse_set_reset()
        return AlterSettings(role, database, name, values, role is None, self.span(start))

    def parse_set_reset(self) -> tuple[str, tuple[OptionValue, ...] | None]:
        """SetResetClause as AlterSettings has it: () is SET ... TO DEFAULT, None is RESET."""
        if self.accept("reset"):
            return self.parse_reset_name(), None
        self.expect("set")
        name, values = self.parse_setting()
        return name, () if values is None else values

    def parse_drop_role(self, start: int) -> DdlStatement:
        """DROP ROLE, USER and GROUP."""
        if self.kinds[self.pos - 1] == "user" and self.kinds[self.pos] == "mapping":
            return self.skip_statement("DROP USER MAPPING", start)
        if_exists = self.accept_if_exists()
        return DropRole(self.parse_roles(), if_exists, self.span(start))

    def parse_reassign(self) -> DdlStatement:
        """REASSIGN OWNED."""
        start = self.pos
        self.pos += 1
        self.expect_all("owned", "by")
        roles = self.parse_roles()
        self.expect("to")
        return ReassignOwned(roles, self.parse_role_spec(), self.span(start))

    def parse_drop_owned(self, start: int) -> DdlStatement:
        """DROP OWNED."""
        self.expect("by")
        roles = self.parse_roles()
        return DropOwned(roles, self.parse_behavior(), self.span(start))

    # --- GRANT, REVOKE ---

    def parse_grant(self) -> DdlStatement:
        """GRANT of privileges or of roles."""
        start = self.pos
        self.pos += 1
        privileges = self._privileges()
        if not self.accept("on"):
            return self._grant_role(start, privileges, is_grant=True, admin=False)
        return self._grant_on(start, privileges, is_grant=True, grant_option=False)

    def parse_revoke(self) -> DdlStatement:
        """REVOKE of privileges or of roles."""
        start = self.pos
        self.pos += 1
        if self.accept_all("admin", "option", "for"):
            return self._grant_role(start, self._privileges(), is_grant=False, admin=True)
        grant_option = self.accept_all("grant", "option", "for")
        privileges = self._privileges()
        if not grant_option and not self.accept("on"):
            return self._grant_role(start, privileges, is_grant=False, admin=False)
        if grant_option:
            self.expect("on")
        return self._grant_on(start, privileges, is_grant=False, grant_option=grant_option)

    def _privileges(self) -> tuple[Privilege, ...]:
        start = self.pos
        if self.accept("all"):
            self.accept("privileges")
            columns = self.parse_paren_names() if self.kinds[self.pos] == "(" else ()
            return (Privilege("all", columns, self.span(start)),)
        return self.parse_list(self._privilege)

    def _privilege(self) -> Privilege:
        start = self.pos
        name = self.accept_any(("select", "references", "create"))
        if not name:
            if self.kinds[start] == "alter" and self.kinds[start + 1] == "system":
                self.pos += 1
                self.values[self.pos] = "alter system"
            name = self.parse_name()
        columns = self.parse_paren_names() if self.kinds[self.pos] == "(" else ()
        return Privilege(name, columns, self.span(start))

    def _grant_role(
        self, start: int, privileges: tuple[Privilege, ...], *, is_grant: bool, admin: bool
    ) -> DdlStatement:
        """GRANT role TO role: what looked like privileges are the roles."""
        self.expect("to" if is_grant else "from")
        grantees = self.parse_roles()
        roles = tuple(RoleSpec("name", privilege.name, privilege.span) for privilege in privileges)
        if is_grant and self.accept("with"):
            self.expect_all("admin", "option")
            admin = True
        granted_by = self._granted_by()
        behavior = "restrict" if is_grant else self.parse_behavior()
        return GrantRole(is_grant, roles, grantees, admin, granted_by, behavior, self.span(start))

    def _granted_by(self) -> RoleSpec | None:
        if not self.accept("granted"):
            return None
        self.expect("by")
        return self.parse_role_spec()

    def _grant_on(
        self, start: int, privileges: tuple[Privilege, ...], *, is_grant: bool, grant_option: bool
    ) -> DdlStatement:
        word = self.kinds[self.pos]
        if word in _UNSUPPORTED_GRANTS and self.kinds[self.pos + 1] not in (",", "to", "from"):
            return self.skip_statement(f"GRANT ON {word.upper()}", start)
        kind, names, in_schema = self._grant_objects()
        self.expect("to" if is_grant else "from")
        grantees = self.parse_list(self._grantee)
        if is_grant and self.accept("with"):
            self.expect_all("grant", "option")
            grant_option = True
        granted_by = self._granted_by()
        behavior = "restrict" if is_grant else self.parse_behavior()
        return Grant(
            is_grant,
            privileges,
            kind,
            names,
            grantees,
            in_schema,
            grant_option,
            granted_by,
            behavior,
            self.span(start),
        )

    def _grantee(self) -> RoleSpec:
        self.accept("group")
        return self.parse_role_spec()

    def _grant_objects(self) -> tuple[GrantKind, tuple[QualifiedName, ...], bool]:
        word = self.kinds[self.pos]
        if word == "all":
            self.pos += 1
            kind = _PLURAL_KINDS[self.expect_any(_PLURAL_KINDS)]
            self.expect_all("in", "schema")
            return kind, self.parse_list(self.parse_single_name), True
        is_kind = word in _SINGULAR_KINDS and self.kinds[self.pos + 1] not in (
            ",",
            ".",
            "to",
            "from",
        )
        if not is_kind:
            return "table", self.parse_list(self.parse_qualified_name), False
        self.pos += 1
        kind = _SINGULAR_KINDS[word]
        if kind == "function":
            return kind, self.parse_list(self.parse_function_name), False
        item = self.parse_single_name if kind in ("schema", "database", "language") else None
        return kind, self.parse_list(item or self.parse_qualified_name), False

    def parse_single_name(self) -> QualifiedName:
        """Parse a name without schema, as a QualifiedName."""
        at = self.pos
        return QualifiedName(self.parse_name(), span=self.token_span(at))

    def parse_function_name(self) -> QualifiedName:
        """function_with_argtypes: the argument list is read and dropped."""
        start = self.pos
        if self.kinds[start] in COL_ID:
            parts = list(self.parse_any_name())
        else:
            parts = [self.parse_non_reserved()]
        name = qualified(parts, self.span(start))
        if self.kinds[self.pos] == "(":
            self.pos = self._skip_to_close(self.pos + 1)
            self.expect(")")
        return name

    def parse_alter_default_privileges(self, start: int) -> DdlStatement:
        """ALTER DEFAULT PRIVILEGES, behind the word PRIVILEGES."""
        roles: tuple[RoleSpec, ...] = ()
        schemas: tuple[str, ...] = ()
        while self.kinds[self.pos] in ("for", "in"):
            if self.accept("for"):
                self.expect_any(("role", "user"))
                roles = self.parse_roles()
            else:
                self.pos += 1
                self.expect("schema")
                schemas = self.parse_name_list()
        at = self.pos
        is_grant = self.expect_any(("grant", "revoke")) == "grant"
        grant_option = not is_grant and self.accept_all("grant", "option", "for")
        privileges = self._privileges()
        self.expect("on")
        kind = _PLURAL_KINDS[self.expect_any(_PLURAL_KINDS)]
        self.expect("to" if is_grant else "from")
        grantees = self.parse_list(self._grantee)
        if is_grant and self.accept("with"):
            self.expect_all("grant", "option")
            grant_option = True
        behavior = "restrict" if is_grant else self.parse_behavior()
        grant = Grant(
            is_grant,
            privileges,
            kind,
            (),
            grantees,
            grant_option=grant_option,
            behavior=behavior,
            span=self.span(at),
        )
        return AlterDefaultPrivileges(roles, schemas, grant, self.span(start))
