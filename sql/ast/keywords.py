"""PostgreSQL 15's key words by category. Written by tools/gen_keywords.py: do not edit.

``KEYWORDS`` has every word (lower case). The four categories decide where a word may stand as a
name: unreserved anywhere; col_name as a column, table or other object, not as a function or type;
type_func_name as a function or type only; reserved only after AS. ``BARE_LABELS`` are those a
select list takes as a label without AS. Source: PostgreSQL docs, appendix "SQL Key Words".
"""

from typing import Final

UNRESERVED: Final = frozenset(
    """
    abort absolute access action add admin after aggregate also alter always asensitive assertion
    assignment at atomic attach attribute backward before begin breadth by cache call called cascade
    cascaded catalog chain characteristics checkpoint class close cluster columns comment comments
    commit committed compression configuration conflict connection constraints content continue
    conversion copy cost csv cube current cursor cycle data database day deallocate declare defaults
    deferred definer delete delimiter delimiters depends depth detach dictionary disable discard
    document domain double drop each enable encoding encrypted enum escape event exclude excluding
    exclusive execute explain expression extension external family filter finalize first following
    force forward function functions generated global granted groups handler header hold hour
    identity if immediate immutable implicit import include including increment index indexes
    inherit inherits inline input insensitive insert instead invoker isolation key label language
    large last leakproof level listen load local location lock locked logged mapping match matched
    materialized maxvalue merge method minute minvalue mode month move name names new next nfc nfd
    nfkc nfkd no normalized nothing notify nowait nulls object of off oids old operator option
    options ordinality others over overriding owned owner parallel parameter parser partial
    partition passing password plans policy preceding prepare prepared preserve prior privileges
    procedural procedure procedures program publication quote range read reassign recheck recursive
    ref referencing refresh reindex relative release rename repeatable replace replica reset restart
    restrict return returns revoke role rollback rollup routine routines rows rule savepoint schema
    schemas scroll search second security sequence sequences serializable server session set sets
    share show simple skip snapshot sql stable standalone start statement statistics stdin stdout
    storage stored strict strip subscription support sysid system tables tablespace temp template
    temporary text ties transaction transform trigger truncate trusted type types uescape unbounded
    uncommitted unencrypted unknown unlisten unlogged until update vacuum valid validate validator
    value varying version view views volatile whitespace within without work wrapper write xml year
    yes zone
    """.split()  # noqa: SIM905
)
COL_NAME: Final = frozenset(
    """
    between bigint bit boolean char character coalesce dec decimal exists extract float greatest
    grouping inout int integer interval least national nchar none normalize nullif numeric out
    overlay position precision real row setof smallint substring time timestamp treat trim values
    varchar xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi
    xmlroot xmlserialize xmltable
    """.split()  # noqa: SIM905
)
TYPE_FUNC_NAME: Final = frozenset(
    """
    authorization binary collation concurrently cross current_schema freeze full ilike inner is
    isnull join left like natural notnull outer overlaps right similar tablesample verbose
    """.split()  # noqa: SIM905
)
RESERVED: Final = frozenset(
    """
    all analyse analyze and any array as asc asymmetric both case cast check collate column
    constraint create current_catalog current_date current_role current_time current_timestamp
    current_user default deferrable desc distinct do else end except false fetch for foreign from
    grant group having in initially intersect into lateral leading limit localtime localtimestamp
    not null offset on only or order placing primary references returning select session_user some
    symmetric table then to trailing true union unique user using variadic when where window with
    """.split()  # noqa: SIM905
)
BARE_LABELS: Final = frozenset(
    """
    abort absolute access action add admin after aggregate all also alter always analyse analyze and
    any asc asensitive assertion assignment asymmetric at atomic attach attribute authorization
    backward before begin between bigint binary bit boolean both breadth by cache call called
    cascade cascaded case cast catalog chain characteristics check checkpoint class close cluster
    coalesce collate collation column columns comment comments commit committed compression
    concurrently configuration conflict connection constraint constraints content continue
    conversion copy cost cross csv cube current current_catalog current_date current_role
    current_schema current_time current_timestamp current_user cursor cycle data database deallocate
    dec decimal declare default defaults deferrable deferred definer delete delimiter delimiters
    depends depth desc detach dictionary disable discard distinct do document domain double drop
    each else enable encoding encrypted end enum escape event exclude excluding exclusive execute
    exists explain expression extension external extract false family finalize first float following
    force foreign forward freeze full function functions generated global granted greatest grouping
    groups handler header hold identity if ilike immediate immutable implicit import in include
    including increment index indexes inherit inherits initially inline inner inout input
    insensitive insert instead int integer interval invoker is isolation join key label language
    large last lateral leading leakproof least left level like listen load local localtime
    localtimestamp location lock locked logged mapping match matched materialized maxvalue merge
    method minvalue mode move name names national natural nchar new next nfc nfd nfkc nfkd no none
    normalize normalized not nothing notify nowait null nullif nulls numeric object of off oids old
    only operator option options or ordinality others out outer overlay overriding owned owner
    parallel parameter parser partial partition passing password placing plans policy position
    preceding prepare prepared preserve primary prior privileges procedural procedure procedures
    program publication quote range read real reassign recheck recursive ref references referencing
    refresh reindex relative release rename repeatable replace replica reset restart restrict return
    returns revoke right role rollback rollup routine routines row rows rule savepoint schema
    schemas scroll search security select sequence sequences serializable server session
    session_user set setof sets share show similar simple skip smallint snapshot some sql stable
    standalone start statement statistics stdin stdout storage stored strict strip subscription
    substring support symmetric sysid system table tables tablesample tablespace temp template
    temporary text then ties time timestamp trailing transaction transform treat trigger trim true
    truncate trusted type types uescape unbounded uncommitted unencrypted unique unknown unlisten
    unlogged until update user using vacuum valid validate validator value values varchar variadic
    verbose version view views volatile when whitespace work wrapper write xml xmlattributes
    xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize
    xmltable yes zone
    """.split()  # noqa: SIM905
)
KEYWORDS: Final = UNRESERVED | COL_NAME | TYPE_FUNC_NAME | RESERVED
