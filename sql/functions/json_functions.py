"""json and jsonb operators and functions.

Reading works on slices of the text: a member of a json value keeps its spelling, and a member of
canonical jsonb
text is canonical itself. Changing jsonb goes through the tree.

Source: PostgreSQL docs, "JSON Functions and Operators".
"""

import json as _json
import re
from collections.abc import Callable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]  # not in the type stubs
from typing import Any, Final

from sql.errors import (
    ArraySubscriptError,
    InvalidParameterValue,
    InvalidTextRepresentation,
    NullValueNotAllowed,
    UntranslatableCharacter,
)
from sql.functions.context import ExecutionContext
from sql.functions.implementation import (
    AggregateImplementation,
    implements,
    register,
    register_aggregate,
)
from sql.functions.json_writer import (
    is_container,
    json_writer,
    write_array,
    write_json,
    write_key,
    write_record,
)
from sql.types.array import ArrayValue
from sql.types.base import Datum, SqlType
from sql.types.json import (
    JsonObject,
    JsonTree,
    check_escapes,
    jsonb_canonical,
    jsonb_in,
    jsonb_parse,
    parse_json,
    quote_json,
)

Types = tuple[SqlType, ...]
_scan: Final = _json.JSONDecoder(  # type: ignore[attr-defined]  # not in the type stubs
    strict=False, parse_int=str, parse_float=str
).scan_once
_space: Final = re.compile(r"[ \t\n\r]*").match
_INTEGER: Final = re.compile(r"\s*[+-]?\d+\s*")


def _skip(text: str, at: int) -> int:
    match = _space(text, at)
    assert match is not None
    return match.end()


def members(text: str) -> Iterator[tuple[str, str]]:
    """Return the (key, value text) pairs of a valid object, in order."""
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        key, at = scanstring(text, at + 1, False)  # noqa: FBT003
        at = _skip(text, _skip(text, at) + 1)
        _, end = _scan(text, at)
        yield key, text[at:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def items(text: str) -> Iterator[str]:
    """Return the texts of a valid array's elements."""
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "]":
        _, end = _scan(text, at)
        yield text[at:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def json_kind(text: str) -> str:
    """Return the first significant character: ``{``, ``[``, ``"`` or of a number or word."""
    first = text[:1]
    return first if first and first not in " \t\n\r" else text[_skip(text, 0)]


def member(text: str, key: str) -> str | None:
    """Return the value of a key as text (the last one's, if repeated), or None."""
    found = None
    if json_kind(text) == "{":
        for name, value in members(text):
            if name == key:
                found = value
    return found


def element(text: str, index: int) -> str | None:
    """Return an array's element as text; negative indexes count from the end."""
    if json_kind(text) != "[":
        return None
    if index < 0:
        values = list(items(text))
        return values[index] if -index <= len(values) else None
    for position, value in enumerate(items(text)):
        if position == index:
            return value
    return None


def as_text(value: str | None) -> str | None:
    """Return what ``->>`` gives for a value's JSON text: strings unquoted, null as NULL."""
    if value is None:
        return None
    value = value.strip(" \t\n\r")
    if value == "null":
        return None
    if value[0] != '"':
        return value
    if "\\u0000" in value and "\x00" in _json.loads(value, strict=False):
        raise UntranslatableCharacter(
            "unsupported Unicode escape sequence", detail="\\u0000 cannot be converted to text."
        )
    return str(_json.loads(value, strict=False))


def extract_path(text: str, path: ArrayValue) -> str | None:
    """Follow a path of keys and indexes; None where it ends early or has a NULL."""
    current: str | None = text
    for step in path.elements:
        if current is None or step is None:
            return None
        kind = json_kind(current)
        if kind == "{":
            current = member(current, step)
        elif kind == "[" and _INTEGER.fullmatch(step):
            current = element(current, int(step))
        else:
            return None
    return current


Reader = Callable[..., Any]
_LEAVING_ESCAPES: Final = ("json_typeof", "json_array_length", "json_array_elements(")


def _register_reader(signature: str, function: Reader) -> None:
    """Register a reader; most of json's de-escape all strings of their argument, used or not."""
    if signature.startswith(("jsonb_", *_LEAVING_ESCAPES)):
        register(signature, function)
        return

    def read(text: str, *rest: Any) -> Any:
        check_escapes(text)
        return function(text, *rest)

    register(signature, read)


def _register_access() -> None:
    for name in ("json", "jsonb"):
        _register_reader(f"{name}_object_field({name},text)", member)
        _register_reader(
            f"{name}_object_field_text({name},text)", lambda text, key: as_text(member(text, key))
        )
        _register_reader(f"{name}_array_element({name},int4)", element)
        _register_reader(
            f"{name}_array_element_text({name},int4)",
            lambda text, index: as_text(element(text, index)),
        )
        _register_reader(f"{name}_extract_path({name},_text)", extract_path)
        _register_reader(
            f"{name}_extract_path_text({name},_text)",
            lambda text, path: as_text(extract_path(text, path)),
        )
        _register_reader(f"{name}_typeof({name})", json_typeof)
        _register_reader(f"{name}_array_length({name})", _array_length)
        _register_reader(f"{name}_object_keys({name})", _object_keys(name))
        _register_reader(f"{name}_each({name})", _each(name))
        _register_reader(f"{name}_each_text({name})", _each_text(name))
        _register_reader(
            f"{name}_array_elements({name})", _elements(name, f"{name}_array_elements")
        )
        _register_reader(
            f"{name}_array_elements_text({name})",
            _elements_text(name, f"{name}_array_elements_text"),
        )


_TYPES: Final = {
    "{": "object",
    "[": "array",
    '"': "string",
    "t": "boolean",
    "f": "boolean",
    "n": "null",
}


def json_typeof(text: str) -> str:
    """Return object, array, string, number, boolean or null."""
    return _TYPES.get(json_kind(text), "number")


def _array_length(text: str) -> int:
    kind = json_kind(text)
    if kind != "[":
        what = "non-array" if kind == "{" else "scalar"
        raise InvalidParameterValue(f"cannot get array length of a {what}")
    return sum(1 for _ in items(text))


def _object_keys(name: str) -> Callable[[str], list[str]]:
    def object_keys(text: str) -> list[str]:
        kind = json_kind(text)
        if kind != "{":
            what = "an array" if kind == "[" else "a scalar"
            raise InvalidParameterValue(f"cannot call {name}_object_keys on {what}")
        return [key for key, _ in members(text)]

    return object_keys


def _check_object(text: str, name: str, function: str) -> None:
    kind = json_kind(text)
    if kind == "{":
        return
    if name == "jsonb":
        raise InvalidParameterValue(f"cannot call {function} on a non-object")
    raise InvalidParameterValue(
        "cannot deconstruct an array as an object" if kind == "[" else "cannot deconstruct a scalar"
    )


def _each(name: str) -> Callable[[str], list[tuple[str, str]]]:
    def each(text: str) -> list[tuple[str, str]]:
        _check_object(text, name, f"{name}_each")
        return list(members(text))

    return each


def _each_text(name: str) -> Callable[[str], list[tuple[str, str | None]]]:
    def each(text: str) -> list[tuple[str, str | None]]:
        _check_object(text, name, f"{name}_each_text")
        return [(key, as_text(value)) for key, value in members(text)]

    return each


def _check_array(text: str, name: str, function: str) -> None:
    kind = json_kind(text)
    if kind == "[":
        return
    if name == "jsonb":
        what = "an object" if kind == "{" else "a scalar"
        raise InvalidParameterValue(f"cannot extract elements from {what}")
    what = "non-array" if kind == "{" else "scalar"
    raise InvalidParameterValue(f"cannot call {function} on a {what}")


def _elements(name: str, function: str) -> Callable[[str], list[str]]:
    def elements(text: str) -> list[str]:
        _check_array(text, name, function)
        return list(items(text))

    return elements


def _elements_text(name: str, function: str) -> Callable[[str], list[str | None]]:
    def elements(text: str) -> list[str | None]:
        _check_array(text, name, function)
        return [as_text(item) for item in items(text)]

    return elements


def _contains(outer: JsonTree, inner: JsonTree) -> bool:
    if isinstance(inner, dict):
        return isinstance(outer, dict) and all(
            key in outer and _contains_value(outer[key], value) for key, value in inner.items()
        )
    if isinstance(inner, list):
        return isinstance(outer, list) and all(
            any(_contains_value(candidate, value) for candidate in outer) for value in inner
        )
    return _same_scalar(outer, inner)


def _contains_value(outer: JsonTree, inner: JsonTree) -> bool:
    return (type(outer) is type(inner) and _contains(outer, inner)) or _same_scalar(outer, inner)


def _same_scalar(a: JsonTree, b: JsonTree) -> bool:
    if isinstance(a, list | dict) or isinstance(b, list | dict):
        return False
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


@implements("jsonb_contains(jsonb,jsonb)")
def jsonb_contains(outer: str, inner: str) -> bool:
    """``@>``: an array also contains a scalar that is one of its elements."""
    outer_tree, inner_tree = jsonb_parse(outer), jsonb_parse(inner)
    if isinstance(outer_tree, list) and not isinstance(inner_tree, list | dict):
        return any(_same_scalar(candidate, inner_tree) for candidate in outer_tree)
    return _contains(outer_tree, inner_tree)


register("jsonb_contained(jsonb,jsonb)", lambda inner, outer: jsonb_contains(outer, inner))


def _existing(text: str) -> frozenset[str]:
    tree = jsonb_parse(text)
    if isinstance(tree, dict):
        return frozenset(tree)
    if isinstance(tree, list):
        return frozenset([item for item in tree if isinstance(item, str)])
    return frozenset([tree]) if isinstance(tree, str) else frozenset()


register("jsonb_exists(jsonb,text)", lambda text, key: key in _existing(text))


@implements("jsonb_exists_any(jsonb,_text)")
def _exists_any(text: str, keys: ArrayValue) -> bool:
    return not _existing(text).isdisjoint(keys.elements)


@implements("jsonb_exists_all(jsonb,_text)")
def _exists_all(text: str, keys: ArrayValue) -> bool:
    return _existing(text).issuperset([key for key in keys.elements if key is not None])


@implements("jsonb_concat(jsonb,jsonb)")
def _concat(a: str, b: str) -> str:
    left, right = jsonb_parse(a), jsonb_parse(b)
    if isinstance(left, dict) and isinstance(right, dict):
        return jsonb_canonical({**left, **right})
    left_items = left if isinstance(left, list) else [left]
    right_items = right if isinstance(right, list) else [right]
    return jsonb_canonical(left_items + right_items)


def _container(text: str) -> JsonTree:
    tree = jsonb_parse(text)
    if not isinstance(tree, list | dict):
        raise InvalidParameterValue("cannot delete from scalar")
    return tree


def _without(text: str, keys: frozenset[str]) -> str:
    tree = _container(text)
    if isinstance(tree, dict):
        return jsonb_canonical({key: value for key, value in tree.items() if key not in keys})
    return jsonb_canonical([v for v in tree if not (isinstance(v, str) and v in keys)])


register("jsonb_delete(jsonb,text)", lambda text, key: _without(text, frozenset([key])))


@implements("jsonb_delete(jsonb,_text)")
def _delete_keys(text: str, keys: ArrayValue) -> str:
    if len(keys.dims) > 1:
        raise ArraySubscriptError("wrong number of array subscripts")
    return _without(text, frozenset(keys.elements))


@implements("jsonb_delete(jsonb,int4)")
def _delete_index(text: str, index: int) -> str:
    tree = _container(text)
    if isinstance(tree, dict):
        raise InvalidParameterValue("cannot delete from object using integer index")
    if -len(tree) <= index < len(tree):
        del tree[index]
    return jsonb_canonical(tree)


class _PathEdit:
    """One change along a path. ``mode``: set, replace (no creation), insert.

    Insert_after or delete.
    """

    def __init__(self, path: ArrayValue, mode: str, value: JsonTree = None) -> None:
        if len(path.dims) > 1:
            raise ArraySubscriptError("wrong number of array subscripts")
        self._path = path.elements
        self._mode = mode
        self._value = value

    def apply(self, tree: JsonTree, level: int = 0) -> JsonTree:
        """Change ``tree`` in place and return it."""
        if not isinstance(tree, list | dict):
            return tree
        step = self._path[level]
        if step is None:
            raise NullValueNotAllowed(f"path element at position {level + 1} is null")
        last = level == len(self._path) - 1
        if isinstance(tree, dict):
            self._in_object(tree, step, level, last=last)
        else:
            self._in_array(tree, step, level, last=last)
        return tree

    def _in_object(self, tree: dict[str, JsonTree], key: str, level: int, *, last: bool) -> None:
        if not last:
            if key in tree:
                tree[key] = self.apply(tree[key], level + 1)
            return
        if self._mode == "delete":
            tree.pop(key, None)
        elif self._mode.startswith("insert"):
            if key in tree:
                raise InvalidParameterValue(
                    "cannot replace existing key",
                    hint="Try using the function jsonb_set to replace key value.",
                )
            tree[key] = self._value
        elif key in tree or self._mode == "set":
            tree[key] = self._value

    def _in_array(self, tree: list[JsonTree], step: str, level: int, *, last: bool) -> None:
        if not _INTEGER.fullmatch(step):
            raise InvalidTextRepresentation(
                f'path element at position {level + 1} is not an integer: "{step}"'
            )
        index = int(step)
        position = index + len(tree) if index < 0 else index
        exists = 0 <= position < len(tree)
        if not last:
            if exists:
                tree[position] = self.apply(tree[position], level + 1)
            return
        match self._mode:
            case "delete":
                if exists:
                    del tree[position]
            case "set" | "replace" if exists:
                tree[position] = self._value
            case "set":
                tree.insert(0 if index < 0 else len(tree), self._value)
            case "insert":
                tree.insert(max(position, 0), self._value)
            case "insert_after":
                tree.insert(position + 1 if position >= 0 else 0, self._value)
            case _:
                pass


def _edit(text: str, path: ArrayValue, mode: str, value: str | None, verb: str) -> str:
    tree = jsonb_parse(text)
    if not isinstance(tree, list | dict):
        raise InvalidParameterValue(f"cannot {verb} path in scalar")
    if not path.elements:
        return text
    new = None if value is None else jsonb_parse(value)
    return jsonb_canonical(_PathEdit(path, mode, new).apply(tree))


@implements("jsonb_delete_path(jsonb,_text)")
def _delete_path(text: str, path: ArrayValue) -> str:
    return _edit(text, path, "delete", None, "delete")


@implements("jsonb_set(jsonb,_text,jsonb,bool)")
def jsonb_set(text: str, path: ArrayValue, value: str, create: bool = True) -> str:  # noqa: FBT001, FBT002
    """Replace, or create, what a path points to."""
    return _edit(text, path, "set" if create else "replace", value, "set")


@implements("jsonb_insert(jsonb,_text,jsonb,bool)")
def _insert(text: str, path: ArrayValue, value: str, after: bool = False) -> str:  # noqa: FBT001, FBT002
    return _edit(text, path, "insert_after" if after else "insert", value, "set")


@implements("jsonb_set_lax(jsonb,_text,jsonb,bool,text)")
def _set_lax(
    text: str | None,
    path: ArrayValue | None,
    value: str | None,
    create: bool | None = True,  # noqa: FBT001, FBT002
    treatment: str | None = "use_json_null",
) -> str | None:
    if text is None or path is None or create is None:
        return None
    if treatment is None:
        raise InvalidParameterValue(_TREATMENTS)
    if value is not None:
        return jsonb_set(text, path, value, create)
    match treatment:
        case "raise_exception":
            raise NullValueNotAllowed(
                "JSON value must not be null",
                detail='Exception was raised because null_value_treatment is "raise_exception".',
                hint=(
                    "To avoid, either change the null_value_treatment argument or ensure that "
                    "an SQL NULL is not passed."
                ),
            )
        case "use_json_null":
            return jsonb_set(text, path, "null", create)
        case "delete_key":
            return _delete_path(text, path)
        case "return_target":
            return text
        case _:
            pass
    raise InvalidParameterValue(_TREATMENTS)


_TREATMENTS: Final = 'null_value_treatment must be "delete_key", "return_target", "use_json_null", or "raise_exception"'  # noqa: E501


def _strip_nulls(tree: JsonTree) -> JsonTree:
    if isinstance(tree, JsonObject):
        return JsonObject((key, _strip_nulls(value)) for key, value in tree if value is not None)
    return list(map(_strip_nulls, tree)) if isinstance(tree, list) else tree


def _compact(tree: JsonTree) -> str:
    if isinstance(tree, JsonObject):
        return "{" + ",".join([f"{quote_json(k)}:{_compact(v)}" for k, v in tree]) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(map(_compact, tree)) + "]"
    return jsonb_canonical(tree)


_register_reader("json_strip_nulls(json)", lambda text: _compact(_strip_nulls(parse_json(text))))
register("jsonb_strip_nulls(jsonb)", lambda text: jsonb_canonical(_strip_nulls(parse_json(text))))


def _pretty(tree: JsonTree, indent: str) -> str:
    inner = indent + "    "
    if isinstance(tree, dict):
        lines = [
            f"{inner}{quote_json(key)}: {_pretty(value, inner)}" for key, value in tree.items()
        ]
        return "{\n" + "".join([",\n".join(lines), "\n" if lines else ""]) + indent + "}"
    if isinstance(tree, list):
        lines = [inner + _pretty(item, inner) for item in tree]
        return "[\n" + "".join([",\n".join(lines), "\n" if lines else ""]) + indent + "]"
    return jsonb_canonical(tree)


register("jsonb_pretty(jsonb)", lambda text: _pretty(jsonb_parse(text), ""))


@implements("to_json(anyelement)", context=True, types=True)
def _to_json(context: ExecutionContext, value: Datum, *, types: Types) -> str:
    return json_writer(context, types[0])(value)


@implements("to_jsonb(anyelement)", context=True, types=True)
def _to_jsonb(context: ExecutionContext, value: Datum, *, types: Types) -> str:
    return jsonb_in(json_writer(context, types[0])(value))


@implements("row_to_json(record)", "row_to_json(record,bool)", context=True)
def _row_to_json(context: ExecutionContext, value: tuple[Datum, ...], pretty: bool = False) -> str:  # noqa: FBT001, FBT002
    return write_record(context, value, "\n " if pretty else "")


@implements("array_to_json(anyarray)", "array_to_json(anyarray,bool)", context=True, types=True)
def _array_to_json(
    context: ExecutionContext,
    value: ArrayValue,
    pretty: bool = False,  # noqa: FBT001, FBT002
    *,
    types: Types,
) -> str:
    return write_array(context, value, types[0], "\n " if pretty else "")


def _build_array(context: ExecutionContext, values: tuple[Datum, ...], types: Types) -> str:
    texts = [write_json(context, v, t) for v, t in zip(values, types, strict=True)]
    return "[" + ", ".join(texts) + "]"


@implements("json_build_array(any)", "json_build_array()", context=True, types=True)
def _json_build_array(context: ExecutionContext, *values: Datum, types: Types) -> str:
    return _build_array(context, values, types)


@implements("jsonb_build_array(any)", "jsonb_build_array()", context=True, types=True)
def _jsonb_build_array(context: ExecutionContext, *values: Datum, types: Types) -> str:
    return jsonb_in(_build_array(context, values, types))


def _build_object(
    context: ExecutionContext, values: tuple[Datum, ...], types: Types, name: str
) -> str:
    if len(values) % 2:
        raise InvalidParameterValue(
            "argument list must have even number of elements",
            hint=f"The arguments of {name}() must consist of alternating keys and values.",
        )
    pairs: list[str] = []
    for at in range(0, len(values), 2):
        if values[at] is None:
            if name == "json_build_object":
                raise InvalidParameterValue(
                    f"argument {at + 1} cannot be null", hint="Object keys should be text."
                )
            raise InvalidParameterValue(f"argument {at + 1}: key must not be null")
        key = write_key(context, values[at], types[at])
        pairs.append(f"{key} : {write_json(context, values[at + 1], types[at + 1])}")
    return "{" + ", ".join(pairs) + "}"


@implements("json_build_object(any)", "json_build_object()", context=True, types=True)
def _json_build_object(context: ExecutionContext, *values: Datum, types: Types) -> str:
    return _build_object(context, values, types, "json_build_object")


@implements("jsonb_build_object(any)", "jsonb_build_object()", context=True, types=True)
def _jsonb_build_object(context: ExecutionContext, *values: Datum, types: Types) -> str:
    return jsonb_in(_build_object(context, values, types, "jsonb_build_object"))


def _object_of(pairs: list[tuple[str | None, str | None]]) -> str:
    texts: list[str] = []
    for key, value in pairs:
        if key is None:
            raise NullValueNotAllowed("null value not allowed for object key")
        texts.append(f"{quote_json(key)} : {'null' if value is None else quote_json(value)}")
    return "{" + ", ".join(texts) + "}"


@implements("json_object(_text)")
def json_object(array: ArrayValue) -> str:
    """Make an object from a flat array of alternating keys and values, or one of pairs."""
    match array.dims:
        case ():
            return "{}"
        case (size,):
            if size % 2:
                raise ArraySubscriptError("array must have even number of elements")
        case (_, columns):
            if columns != 2:
                raise ArraySubscriptError("array must have two columns")
        case _:
            raise ArraySubscriptError("wrong number of array subscripts")
    return _object_of(list(zip(array.elements[::2], array.elements[1::2], strict=True)))


@implements("json_object(_text,_text)")
def json_object_of(keys: ArrayValue, values: ArrayValue) -> str:
    """Make an object from an array of keys and one of values."""
    if len(keys.dims) > 1 or len(keys.dims) != len(values.dims):
        raise ArraySubscriptError("wrong number of array subscripts")
    if len(keys) != len(values):
        raise ArraySubscriptError("mismatched array dimensions")
    return _object_of(list(zip(keys.elements, values.elements, strict=True)))


register("jsonb_object(_text)", lambda array: jsonb_in(json_object(array)))
register("jsonb_object(_text,_text)", lambda keys, values: jsonb_in(json_object_of(keys, values)))


def _agg_state(context: ExecutionContext, types: Types) -> list[Any]:
    """Return [context, types, texts]."""
    return [context, types, []]


def _agg_step(state: list[Any], value: Datum) -> list[Any]:
    state[2].append(write_json(state[0], value, state[1][0]))
    return state


def _agg_finish(state: list[Any]) -> str | None:
    if not state[2]:
        return None
    separator = ", \n " if is_container(state[1][0]) else ", "
    return "[" + separator.join(state[2]) + "]"


def _object_agg_step(state: list[Any], key: Datum, value: Datum) -> list[Any]:
    if key is None:
        raise InvalidParameterValue("field name must not be null")
    context, types, texts = state
    texts.append(f"{write_key(context, key, types[0])} : {write_json(context, value, types[1])}")
    return state


def _object_agg_finish(state: list[Any]) -> str | None:
    return "{ " + ", ".join(state[2]) + " }" if state[2] else None


def _as_jsonb(finish: Callable[[list[Any]], str | None]) -> Callable[[list[Any]], str | None]:
    def finish_jsonb(state: list[Any]) -> str | None:
        text = finish(state)
        return None if text is None else jsonb_in(text)

    return finish_jsonb


def _register_aggregates() -> None:
    for signature, step, finish in (
        ("json_agg(anyelement)", _agg_step, _agg_finish),
        ("jsonb_agg(anyelement)", _agg_step, _as_jsonb(_agg_finish)),
        ("json_object_agg(any,any)", _object_agg_step, _object_agg_finish),
        ("jsonb_object_agg(any,any)", _object_agg_step, _as_jsonb(_object_agg_finish)),
    ):
        register_aggregate(
            signature,
            AggregateImplementation(
                _agg_state,
                step,
                finish,
                strict=False,
                needs_types=True,
                needs_context=True,
                grows=True,
            ),
        )


_register_access()
_register_aggregates()
