"""A DdlEnvironment that records what DDL asks of rows, over a bootstrap catalog."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

from nodedb.catalog.bootstrap import DEFAULT_DATABASE_ID, bootstrap_catalog
from nodedb.catalog.changes import CatalogOverlay, apply_change
from nodedb.catalog.ddl.execute import execute_ddl
from nodedb.catalog.session_catalog import SessionCatalog
from nodedb.catalog.virtual import virtual_tables
from sql.catalog.descriptor import SUPERUSER_ID, Table
from sql.catalog.snapshot import CatalogSnapshot
from sql.errors import SqlError, UndefinedObject
from sql.parser.statements import parse_statements


class FakeEnvironment:
    def __init__(self, base=None, user_id=SUPERUSER_ID):
        if base is None:
            base = apply_change(CatalogSnapshot(), bootstrap_catalog(), 1)
        self.overlay = CatalogOverlay(base)
        self.user_id = user_id
        self.session_user_id = user_id
        self.session_id = 77
        self.search_path = ("$user", "public")
        self.in_transaction_block = False
        self.notices = []
        self.calls = []
        self.volatile_defaults = False
        self.sequences = {}

    @property
    def catalog(self):
        return SessionCatalog(
            self.overlay.snapshot,
            database_id=DEFAULT_DATABASE_ID,
            user_id=self.user_id,
            search_path=self.search_path,
            session_id=self.session_id,
            virtual_tables=virtual_tables(),
        )

    @contextmanager
    def search_first(self, schema):
        before, self.search_path = self.search_path, (schema, *self.search_path)
        yield
        self.search_path = before

    def run(self, text):
        """Execute a script; returns the tags. A failing statement leaves the overlay as it was."""
        tags = []
        for parsed in parse_statements(text):
            mark = self.overlay.mark()
            try:
                tags.append(asyncio.run(execute_ddl(parsed.statement, self)))
            except SqlError:
                self.overlay.rollback(mark)
                raise
        return tags

    def fail(self, text):
        """Execute a statement that must fail; returns (SQLSTATE, message, detail, hint)."""
        try:
            self.run(text)
        except SqlError as error:
            return error.sqlstate, error.message, error.detail, error.hint
        raise AssertionError(f"no error: {text}")

    def table(self, name, schema="public"):
        found = self.overlay.snapshot.relation(self.catalog.schema_id(schema), name)
        assert isinstance(found, Table), name
        return found

    def relation(self, name, schema="public"):
        return self.overlay.snapshot.relation(self.catalog.schema_id(schema), name)

    def notice(self, severity, sqlstate, message, detail="", hint=""):
        self.notices.append((severity, sqlstate, message, detail))

    def make_scram_secret(self, password):
        return f"SCRAM-SHA-256$hashed:{password}"

    def stored_setting(self, name, values):
        if name not in ("work_mem", "search_path"):
            raise UndefinedObject(f'unrecognized configuration parameter "{name}"')
        return name, ", ".join(map(str, values))

    def connections_to(self, database_id):
        return 0

    async def lock_table(self, table_id, mode):
        pass

    async def lock_object(self, descriptor_id, *, to_drop=False):
        pass

    may_commit = False
    is_utc = True

    def build_later(self, pending):
        raise AssertionError(pending)

    def require_unused(self, table, command):
        pass

    async def missing_value(self, column):
        return None if self.volatile_defaults else b"value"

    async def rewrite_table(self, old, new, conversions):
        self.calls.append(("rewrite", old.name, sorted(conversions)))

    async def backfill_index(self, table, index, command="CREATE INDEX"):
        self.calls.append(("backfill", index.name))

    async def validate_check(self, table, check):
        self.calls.append(("check", check.name))

    async def validate_not_null(self, table, column):
        self.calls.append(("not null", column.name))

    async def validate_foreign_key(self, table, foreign_key):
        self.calls.append(("foreign key", foreign_key.name))

    async def clear_storage(self, storage_id):
        self.calls.append(("clear", storage_id))

    async def drop_index_entries(self, table, index):
        self.calls.append(("drop index", index.name))

    async def run_query_into(self, query, table):
        return 3

    async def begin_sequence(self, sequence, value, *, is_called):
        self.sequences[sequence.id] = (value, is_called)

    async def clear_sequence(self, storage_id):
        self.calls.append(("clear sequence", storage_id))

    async def sequence_state(self, sequence):
        return self.sequences[sequence.id]
