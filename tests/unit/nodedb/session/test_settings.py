"""Session variables: PostgreSQL 15's error texts, canonical forms, transactions."""

import pytest

from nodedb.session.settings import Settings, join_values
from sql.errors import (
    CantChangeRuntimeParam,
    InvalidName,
    InvalidParameterValue,
    SqlError,
    UndefinedObject,
)


def make(**defaults: str) -> Settings:
    return Settings(defaults, is_superuser=lambda: True)


@pytest.mark.parametrize(
    ("name", "value", "message", "hint"),
    [
        ("work_mem", "abc", 'invalid value for parameter "work_mem": "abc"', ""),
        (
            "work_mem",
            "1XB",
            'invalid value for parameter "work_mem": "1XB"',
            'Valid units for this parameter are "B", "kB", "MB", "GB", and "TB".',
        ),
        (
            "work_mem",
            "10",
            '10 kB is outside the valid range for parameter "work_mem" (64 .. 2147483647)',
            "",
        ),
        (
            "statement_timeout",
            "3000000000",
            'invalid value for parameter "statement_timeout": "3000000000"',
            "Value exceeds integer range.",
        ),
        (
            "statement_timeout",
            "1week",
            'invalid value for parameter "statement_timeout": "1week"',
            'Valid units for this parameter are "us", "ms", "s", "min", "h", and "d".',
        ),
        (
            "jit_above_cost",
            "-2",
            '-2 is outside the valid range for parameter "jit_above_cost" (-1 .. 1.79769e+308)',
            "",
        ),
        ("enable_seqscan", "maybe", 'parameter "enable_seqscan" requires a Boolean value', ""),
        (
            "bytea_output",
            "x",
            'invalid value for parameter "bytea_output": "x"',
            "Available values: escape, hex.",
        ),
        (
            "default_transaction_isolation",
            "repeatable  read",
            'invalid value for parameter "default_transaction_isolation": "repeatable  read"',
            "Available values: serializable, repeatable read, read committed, read uncommitted.",
        ),
        ("TimeZone", "nosuch", 'invalid value for parameter "TimeZone": "nosuch"', ""),
        (
            "default_tablespace",
            "nosuch",
            'invalid value for parameter "default_tablespace": "nosuch"',
            "",
        ),
    ],
)
def test_bad_values(name: str, value: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        make().set(name, value, local=False)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("work_mem", "1.5MB", "1536kB"),
        ("work_mem", "1GB", "1GB"),
        ("statement_timeout", "1.5s", "1500ms"),
        ("statement_timeout", "100us", "0"),
        ("lock_timeout", "0x10", "16ms"),
        ("lock_timeout", "010", "8ms"),
        ("lock_timeout", "36h", "36h"),
        ("enable_seqscan", "of", "off"),
        ("client_min_messages", "debug", "debug2"),
        ("client_min_messages", "info", "info"),
        ("random_page_cost", "1e3", "1000"),
        ("DateStyle", "sql, dmy", "SQL, DMY"),
        ("DateStyle", "german", "German, DMY"),
        ("application_name", "h\u00e9", "h??"),
        ("synchronous_commit", "yes", "on"),
        ("a.b.c", "1", "1"),
    ],
)
def test_canonical_forms(name: str, value: str, shown: str) -> None:
    settings = make()
    settings.set(name, value, local=False)
    assert settings.show(name) == shown


def test_a_date_style_keeps_the_part_not_given() -> None:
    settings = make(DateStyle="SQL, DMY")
    settings.set("DateStyle", "ymd", local=False)
    assert settings.get("DateStyle") == "SQL, YMD"
    settings.set("DateStyle", "iso", local=False)
    assert settings.get("DateStyle") == "ISO, YMD"
    for value, detail in (
        ("foo", 'Unrecognized key word: "foo".'),
        ("iso, sql", 'Conflicting "datestyle" specifications.'),
        ("mdy, dmy", 'Conflicting "datestyle" specifications.'),
    ):
        with pytest.raises(InvalidParameterValue) as caught:
            settings.set("DateStyle", value, local=False)
        assert caught.value.detail == detail


def test_names() -> None:
    settings = make()
    with pytest.raises(UndefinedObject):
        settings.get("no.such")
    with pytest.raises(InvalidName):
        settings.set("a.b-c", "1", local=False)
    with pytest.raises(CantChangeRuntimeParam) as caught:
        settings.set("max_connections", "5", local=False)
    assert (
        caught.value.message
        == 'parameter "max_connections" cannot be changed without restarting the server'
    )
    with pytest.raises(InvalidParameterValue, match="takes only one argument"):
        join_values("work_mem", (1, 2))


def test_a_custom_variable_is_known_for_ever_once_set() -> None:
    settings = make()
    settings.set("my.v", "inside", local=True)
    settings.end_transaction(committed=False)
    assert settings.get("my.v") == ""


def test_transactions_and_savepoints_take_values_back() -> None:
    settings = make()
    settings.set("work_mem", "1MB", local=False)
    settings.end_transaction(committed=True)
    settings.set("work_mem", "2MB", local=False)
    mark = settings.mark()
    settings.set("work_mem", "3MB", local=True)
    assert settings.show("work_mem") == "3MB"
    settings.rollback_to(mark)
    assert settings.show("work_mem") == "2MB"
    settings.set("work_mem", "4MB", local=True)
    settings.end_transaction(committed=True)
    assert settings.show("work_mem") == "2MB"
    settings.set("work_mem", "5MB", local=False)
    settings.end_transaction(committed=False)
    assert settings.show("work_mem") == "2MB"


def test_defaults_of_characteristics_are_for_later_transactions() -> None:
    settings = make()
    settings.set("default_transaction_read_only", "on", local=False)
    assert not settings.is_read_only
    settings.end_transaction(committed=True)
    assert settings.is_read_only
    assert settings.characteristics() == ("read committed", "on", "off")


def test_reset_all_leaves_the_role_alone() -> None:
    settings = make()
    settings.set("work_mem", "1MB", local=False)
    settings.set("role", "somebody", local=False, internal=True)
    settings.reset_all()
    assert settings.show("work_mem") == "4MB"
    assert settings.get("role") == "somebody"


def test_every_variable_has_a_default_that_it_accepts() -> None:
    settings = make()
    for name, _, _ in settings.rows():
        try:
            assert settings.checked(name, settings.get(name)) == settings.get(name), name
        except SqlError:
            # Sentinels outside the range that may be set: -1 for "computed", versions.
            assert settings.get(name) in ("-1", "150000", "100", "0"), name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("intervalstyle", "roman", 'invalid value for parameter "intervalstyle": "roman"'),
        ("INTERVALSTYLE", "x", 'invalid value for parameter "INTERVALSTYLE": "x"'),
        ("Work_Mem", "x", 'invalid value for parameter "Work_Mem": "x"'),
        ("Enable_SeqScan", "x", 'parameter "Enable_SeqScan" requires a Boolean value'),
        ("timezone", "nosuch", 'invalid value for parameter "TimeZone": "nosuch"'),
        ("datestyle", "x", 'invalid value for parameter "DateStyle": "x"'),
    ],
)
def test_messages_name_a_parameter_as_postgresql_does(name: str, value: str, message: str) -> None:
    """A value's form is judged under the name as written, its meaning under the variable's own."""
    with pytest.raises(InvalidParameterValue) as caught:
        make().set(name, value, local=False)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("INTERVAL '+02:00' hour to minute", "<+02>-02"),
        ("INTERVAL '-02:30' HOUR TO MINUTE", "<-02:30>+02:30"),
        ("interval '2'", "<+00:00:02>-00:00:02"),
        ("INTERVAL '2' minute", "<+00:02>-00:02"),
        ("INTERVAL '02:00:30'", "<+02:00:30>-02:00:30"),
    ],
)
def test_an_interval_is_a_time_zone(value: str, shown: str) -> None:
    settings = make()
    settings.set("timezone", value, local=False)
    assert settings.show("timezone") == shown
    assert settings.format.time_zone == shown


@pytest.mark.parametrize(
    ("value", "shown", "unit"),
    [("INTERVAL '1 month'", "1 mon", "months"), ("INTERVAL '1 day'", "1 day", "days")],
)
def test_a_time_zone_has_no_days(value: str, shown: str, unit: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        make().set("timezone", value, local=False)
    assert caught.value.message == f'invalid value for parameter "TimeZone": "INTERVAL \'{shown}\'"'
    assert caught.value.detail == f"Cannot specify {unit} in time zone interval."
