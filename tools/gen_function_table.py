"""Write sql/functions/{signature,internal,operator,cast}_table.py from a PostgreSQL 15 server's catalogs.

Run: ``python tools/gen_function_table.py "host=... port=... user=..."``. Only facts are taken:
OIDs,
names, argument types, volatility, strictness. Entries with types that ``sql.types.catalog`` does
not
have are left out. The server's internals (I/O, index support, planner support) are no functions that
a statement can call: those that other catalogs refer to are in a table of their own.
"""

import sys
from pathlib import Path

import psycopg

from sql.types.catalog import all_types

FUNCTIONS = Path(__file__).resolve().parent.parent / "sql" / "functions"
UNUSABLE = {"internal", "cstring", "trigger", "pg_node_tree", "aclitem", "_aclitem"}
KEPT = {"aclexplode", "makeaclitem", "acldefault", "pg_get_expr"}

SIGNATURES = """
select p.oid, p.proname,
       case when a.aggkind in ('o', 'h') then a.aggkind else p.prokind end,
       p.provolatile, p.proisstrict, p.proretset, p.provariadic <> 0, p.pronargdefaults,
       coalesce(a.aggnumdirectargs, 0), r.typname,
       array(select t.typname::text from unnest(p.proargtypes) with ordinality x(id, n)
             join pg_type t on t.oid = x.id order by n),
       p.proargnames, p.proargmodes::text[],
       array(select t.typname::text from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) with ordinality x(id, n)
             join pg_type t on t.oid = x.id order by n)
from pg_proc p join pg_type r on r.oid = p.prorettype
left join pg_aggregate a on a.aggfnoid = p.oid
where p.pronamespace = 11 and p.oid < 16384 order by p.proname, p.oid
"""
REFERENCED = """
select x.oid from pg_type t, lateral (values (typinput::oid), (typoutput), (typreceive), (typsend), (typmodin),
  (typmodout), (typanalyze), (typsubscript)) x(oid) where t.typname = any(%(types)s)
union select amhandler::oid from pg_am
union select x.oid from pg_aggregate, lateral (values (aggtransfn::oid), (aggfinalfn), (aggcombinefn), (aggserialfn),
  (aggdeserialfn), (aggmtransfn), (aggminvtransfn), (aggmfinalfn)) x(oid)
union select x.oid from pg_operator, lateral (values (oprcode::oid), (oprrest), (oprjoin)) x(oid)
union select castfunc from pg_cast union select amproc::oid from pg_amproc
union select x.oid from pg_language, lateral (values (lanplcallfoid), (laninline), (lanvalidator)) x(oid)
"""
OPERATORS = """
select o.oid, o.oprname, l.typname, r.typname, o.oprcode::oid,
       (select c.oprname from pg_operator c where c.oid = o.oprcom),
       (select c.oprname from pg_operator c where c.oid = o.oprnegate),
       (select m.amopstrategy from pg_amop m join pg_opclass k on k.opcfamily = m.amopfamily
        where m.amopmethod = 403 and m.amopopr = o.oid and k.opcdefault limit 1),
       (select true from pg_amop m join pg_opclass k on k.opcfamily = m.amopfamily
        where m.amopmethod = 403 and m.amopopr = o.oprnegate and m.amopstrategy = 3
          and k.opcdefault limit 1)
from pg_operator o left join pg_type l on l.oid = o.oprleft join pg_type r on r.oid = o.oprright
where o.oid < 16384 and o.oprcode <> 0 order by o.oprname, o.oid
"""
CASTS = """
select s.typname, t.typname, c.castfunc, c.castcontext, c.castmethod
from pg_cast c join pg_type s on s.oid = c.castsource join pg_type t on t.oid = c.casttarget
where c.castsource <> c.casttarget order by c.castsource, c.casttarget
"""
HEADER = '''"""{title}: PostgreSQL 15's own facts, written by ``tools/gen_function_table.py``.

{shape}
"""  # noqa: E501

{noqa}from typing import Final

{name}: Final = """\\
{lines}
"""  # noqa: E501
'''
STRATEGIES = {1: "<", 2: "<=", 3: "=", 4: ">=", 5: ">"}


def write(file: str, title: str, shape: str, name: str, lines: list[str]) -> None:
    text = HEADER.format(
        title=title,
        shape=shape,
        name=name,
        lines="\n".join(lines),
        noqa="# ruff: noqa: E501\n" if max(map(len, lines)) > 100 else "",
    )
    (FUNCTIONS / file).write_text(text, encoding="utf-8")
    print(file, len(lines))


def signature_line(row: tuple, known: set[str], *, internal: bool = False) -> str | None:
    (
        oid,
        name,
        kind,
        volatility,
        strict,
        retset,
        variadic,
        defaults,
        direct,
        result,
        args,
        names,
        modes,
        all_types_,
    ) = row
    usable = known if name in KEPT or internal else known - UNUSABLE
    if not set(args) | {result} | set(all_types_) <= usable:
        return None
    flags = kind + volatility + ("s" if strict else "-")
    flags += ("r" if retset else "-") + ("v" if variadic else "-")
    in_names: list[str] = []
    columns: list[str] = []
    if modes:
        for arg_name, mode, arg_type in zip(
            names or [""] * len(modes), modes, all_types_, strict=True
        ):
            if mode in "iv":
                in_names.append(arg_name)
            else:
                columns.append(f"{arg_name}:{arg_type}")
    else:
        in_names = names or []
    fields = (
        oid,
        name,
        flags,
        defaults,
        direct,
        result,
        ",".join(args) or "-",
        ",".join(in_names) if any(in_names) else "-",
        ",".join(columns) or "-",
    )
    return " ".join(map(str, fields))


def main(dsn: str) -> None:
    known = {t.name for t in all_types()}
    with psycopg.connect(dsn) as connection:
        functions = connection.execute(SIGNATURES).fetchall()
        referenced = {
            oid for (oid,) in connection.execute(REFERENCED, {"types": sorted(known)})
        }
        lines = [
            signature_line(row, known, internal=True) for row in functions if row[0] in referenced
        ]
        write(
            "internal_table.py",
            "Functions that other catalogs refer to",
            "One line each, as in the table of signatures.",
            "INTERNALS",
            [line for line in lines if line],
        )
        lines = [signature_line(row, known) for row in functions]
        write(
            "signature_table.py",
            "Signatures of built-in functions",
            "One line each: oid name flags defaults direct result arguments names columns, where flags are\n"
            "kind (f, a, o, h, w), volatility (i, s, v), strict (s), set (r), variadic (v).",
            "SIGNATURES",
            [line for line in lines if line],
        )
        lines = [
            f"{oid} {name} {left or '-'} {right} {code} {commutator or '-'} {negator or '-'} "
            f"{STRATEGIES.get(strategy) or ('<>' if unequal else '-')}"
            for oid, name, left, right, code, commutator, negator, strategy, unequal in connection.execute(
                OPERATORS
            )
            if {left or right, right} <= known
        ]
        write(
            "operator_table.py",
            "Operators",
            "One line each: oid name left right function-oid commutator negator comparison; - is none.",
            "OPERATORS",
            lines,
        )
        lines = [
            f"{source} {target} {function} {context} {method}"
            for source, target, function, context, method in connection.execute(CASTS)
            if {source, target} <= known
        ]
        write(
            "cast_table.py",
            "Casts",
            "One line each: source target function-oid context (i, a, e) method (f, b, i).",
            "CASTS",
            lines,
        )


if __name__ == "__main__":
    main(sys.argv[1])
