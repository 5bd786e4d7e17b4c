"""Django, unmodified, over psycopg: the project in ``django_project`` runs its own tests on a node.

Each test here is a run of ``manage.py`` as a developer would start it; those that name a module of
``shop/cases`` create a test database, migrate it, run the module's cases, and destroy it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.e2e.node_process import NodeProcess

PROJECT = Path(__file__).with_name("django_project")
RUN_SECONDS = 240.0

_MIGRATE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
for target in sys.argv[1:]:
    execute_from_command_line(["manage.py", "migrate", *target.split()])
"""


class Project:
    """A copy of the project: in ours no folder may be a package, and Django wants one of them."""

    def __init__(self, folder: Path, node: NodeProcess, database: str) -> None:
        self.folder, self.node, self.database = folder, node, database
        (folder / "shop" / "migrations" / "__init__.py").touch()

    def manage(self, *arguments: str, fails: bool = False) -> str:
        """Run ``manage.py`` to its end; returns what it wrote."""
        return self._run("manage.py", *arguments, fails=fails)

    def migrate(self, *targets: tuple[str, ...]) -> None:
        """Run ``migrate`` for each of these targets, in one process to save time."""
        self._run("-c", _MIGRATE, *(" ".join(target) for target in targets))

    def _run(self, *arguments: str, fails: bool = False) -> str:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "DJANGO"))}
        environment |= {
            "DATABASE_HOST": self.node.host,
            "DATABASE_PORT": str(self.node.port),
            "DATABASE_NAME": self.database,
        }
        done = subprocess.run(
            [sys.executable, "-W", "error::RuntimeWarning", *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"{arguments}: {done.stdout}"
        return done.stdout

    def run_cases(self, *modules: str) -> None:
        """Run the cases of ``shop/cases``, none of which may be skipped."""
        output = self.manage("test", "--noinput", *(f"shop.cases.{module}" for module in modules))
        assert "\nOK\n" in output, output


@pytest.fixture
def project(client_node: NodeProcess, tmp_path: Path) -> Project:
    """The project with an empty database of its own."""
    with client_node.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        connection.execute("CREATE DATABASE shop")
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return Project(folder, client_node, "shop")


def catalog(project: Project) -> list[tuple[object, ...]]:
    """Everything in schema public: columns, constraints and indexes with their definitions."""
    with project.node.connect(dbname=project.database) as connection:
        return connection.execute(
            """
            SELECT 'column', c.relname::text, a.attname, format_type(a.atttypid, a.atttypmod),
                   a.attnotnull::text
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
            WHERE c.relnamespace = 'public'::regnamespace AND NOT a.attisdropped
            UNION ALL
            SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), ''
            FROM pg_constraint WHERE connamespace = 'public'::regnamespace
            UNION ALL
            SELECT 'index', tablename::text, indexname, indexdef, '' FROM pg_indexes
            WHERE schemaname = 'public'
            ORDER BY 1, 2, 3
            """
        ).fetchall()


def test_migrations(project: Project) -> None:
    assert "No changes detected" in project.manage("makemigrations", "--check", "--dry-run")
    project.manage("migrate", "shop", "0004")
    names = [row[2] for row in catalog(project) if row[1] == "written_essay"]
    assert "essay_heading" in names
    assert "draft_deferred" in names
    assert "unwanted" not in names
    project.manage("migrate", "shop", "0002")
    with project.node.connect(dbname="shop") as connection:
        drafts = connection.execute(
            "SELECT count(*), sum(number), max(text_number), count(unwanted) FROM shop_draft"
        ).fetchone()
    assert drafts == (50, 1225, "9", 0)
    project.manage("migrate")
    assert "No migrations to apply" in project.manage("migrate")
    newest = catalog(project)
    project.migrate(("shop", "zero"), ("shop",))
    assert catalog(project) == newest
    statements = project.manage("sqlmigrate", "shop", "0001")
    assert 'CONSTRAINT "product_price_not_negative" CHECK ("price" >= ' in statements
    assert 'DROP TABLE "shop_draft" CASCADE' in project.manage(
        "sqlmigrate", "shop", "0002", "--backwards"
    )
    apps = ("shop", "admin", "auth", "sessions", "contenttypes")
    project.migrate(*((app, "zero") for app in apps))
    left = {str(row[1]) for row in catalog(project)}
    assert left == {"django_migrations", "django_migrations_id_seq", "django_migrations_pkey"}


def test_a_migration_that_fails_leaves_nothing(project: Project) -> None:
    project.manage("migrate", "shop", "0002")
    before = catalog(project)
    migration = project.folder / "shop" / "migrations" / "0003_change_draft.py"
    source = migration.read_text(encoding="utf-8")
    migration.write_text(source.replace("== 1225", '== "wrong"'), encoding="utf-8")
    assert "AssertionError" in project.manage("migrate", "shop", "0003", fails=True)
    assert catalog(project) == before
    migration.write_text(source, encoding="utf-8")
    project.manage("migrate", "shop", "0003")


def test_new_models(project: Project) -> None:
    """A developer adds a field and asks for the migration."""
    project.manage("migrate")
    models = project.folder / "shop" / "models.py"
    with models.open("a", encoding="utf-8") as file:
        file.write("    note = models.TextField(default='new', db_index=True)\n")
    with project.node.connect(dbname="shop") as connection:
        connection.execute("INSERT INTO shop_counter (name, value) VALUES ('old', 3)")
    project.manage("makemigrations", "shop", "--name", "note")
    statements = project.manage("sqlmigrate", "shop", "0006")
    assert (
        """ALTER TABLE "shop_counter" ADD COLUMN "note" text DEFAULT 'new' NOT NULL;"""
        in statements
    )
    project.manage("migrate")
    with project.node.connect(dbname="shop") as connection:
        row = connection.execute("SELECT name, doubled, note FROM shop_counter").fetchone()
        assert row == ("old", 6, "new")
        with pytest.raises(psycopg.errors.NotNullViolation):
            connection.execute("INSERT INTO shop_counter (name, value) VALUES ('bad', 3)")


def test_transactions(project: Project) -> None:
    project.run_cases("transactions")


def test_row_locks(project: Project) -> None:
    project.run_cases("locking")


def test_queries(project: Project) -> None:
    project.run_cases("queries")


def test_administration(project: Project) -> None:
    project.run_cases("administration")


def test_test_databases_are_destroyed(project: Project) -> None:
    project.run_cases("queries.TypesTest")
    with project.node.connect() as connection:
        names = connection.execute("SELECT datname FROM pg_database").fetchall()
    assert ("test_shop",) not in names
