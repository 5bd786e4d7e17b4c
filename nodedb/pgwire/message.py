"""Frontend messages as light values, named as in PostgreSQL docs, "Message Formats".

Text is already ``str``: client_encoding is always UTF8. Parameter values stay bytes, because only
the session knows their types. ``gc=False``: these never take part in a reference cycle.
"""

import msgspec


class Bind(msgspec.Struct, gc=False):
    """Make a portal of a prepared statement. A parameter None is NULL."""

    portal: str
    statement: str
    parameter_formats: tuple[int, ...]
    parameters: list[bytes | None]
    result_formats: tuple[int, ...]


class Execute(msgspec.Struct, gc=False):
    """Run a portal; ``row_limit`` 0 means all rows."""

    portal: str
    row_limit: int


class Sync(msgspec.Struct, gc=False):
    """End an extended-query batch."""


class DescribePortal(msgspec.Struct, gc=False):
    """Ask for a portal's RowDescription."""

    portal: str


class DescribeStatement(msgspec.Struct, gc=False):
    """Ask for a prepared statement's ParameterDescription and RowDescription."""

    statement: str


class Parse(msgspec.Struct, gc=False):
    """Make a prepared statement."""

    statement: str
    text: str
    parameter_oids: tuple[int, ...]


class Query(msgspec.Struct, gc=False):
    """A simple query: any number of statements."""

    text: str


class ClosePortal(msgspec.Struct, gc=False):
    """Forget a portal."""

    portal: str


class CloseStatement(msgspec.Struct, gc=False):
    """Forget a prepared statement."""

    statement: str


class CopyData(msgspec.Struct, gc=False):
    """A piece of the COPY stream."""

    data: bytes


class CopyDone(msgspec.Struct, gc=False):
    """End of the COPY stream."""


class CopyFail(msgspec.Struct, gc=False):
    """The client gives up the COPY."""

    reason: str


class Flush(msgspec.Struct, gc=False):
    """Send what is ready without waiting for Sync."""


class FunctionCall(msgspec.Struct, gc=False):
    """The fast-path call, which is refused; its body is not looked at."""


class PasswordMessage(msgspec.Struct, gc=False):
    """Password, SASLInitialResponse or SASLResponse: the exchange under way decides which."""

    body: bytes


class Terminate(msgspec.Struct, gc=False):
    """The client says goodbye."""


FrontendMessage = (
    Bind
    | Execute
    | Sync
    | DescribePortal
    | DescribeStatement
    | Parse
    | Query
    | ClosePortal
    | CloseStatement
    | CopyData
    | CopyDone
    | CopyFail
    | Flush
    | FunctionCall
    | PasswordMessage
    | Terminate
)
