"""What is known of a result's columns: RowDescription and the encoder of rows, kept per connection.

A session hands out the same tuple of columns for each execution of a plan, so both are found by its
identity.
"""

from collections.abc import Sequence
from typing import Any, Final

from nodedb.pgwire import backend
from nodedb.pgwire.rows import TEXT_FORMAT, RowEncoder, depends_on_settings, row_encoder
from nodedb.session.api import FormatSettings, ResultColumn

_SHAPES_MAX: Final = 512


class Shape:
    """RowDescription and encoder of one (columns, formats), as long as the columns object lives."""

    __slots__ = ("columns", "encode", "formats", "row_description", "settings")

    def __init__(
        self, columns: tuple[ResultColumn, ...], formats: Sequence[int], settings: FormatSettings
    ) -> None:
        self.columns = columns
        self.formats = formats
        self.settings = _snapshot(settings) if depends_on_settings(columns) else None
        self.encode: RowEncoder = row_encoder(columns, formats, settings)
        self.row_description = backend.row_description(columns, formats)


def _snapshot(settings: FormatSettings) -> tuple[Any, ...]:
    return (
        settings.date_style,
        settings.interval_style,
        settings.time_zone,
        settings.extra_float_digits,
        settings.bytea_output,
    )


class Shapes:
    """The shapes of the results that a connection has sent."""

    __slots__ = ("_shapes",)

    def __init__(self) -> None:
        self._shapes: dict[int, Shape] = {}

    def find(
        self, settings: FormatSettings, columns: tuple[ResultColumn, ...], formats: Sequence[int]
    ) -> Shape:
        """Return the shape of these columns, made anew when a setting it depends on changed."""
        shape = self._shapes.get(id(columns))
        if (
            shape is not None
            and shape.columns is columns
            and (shape.formats is formats or tuple(shape.formats) == tuple(formats))
            and (shape.settings is None or shape.settings == _snapshot(settings))
        ):
            return shape
        if len(self._shapes) >= _SHAPES_MAX:
            self._shapes.clear()
        shape = self._shapes[id(columns)] = Shape(columns, formats, settings)
        return shape

    def clear(self) -> None:
        """Forget them all."""
        self._shapes.clear()


def spread_formats(formats: Sequence[int], count: int) -> Sequence[int]:
    """Return a format for each of ``count`` columns: none given means text, one means all."""
    return (formats[0] if formats else TEXT_FORMAT,) * count
