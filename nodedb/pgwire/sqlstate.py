"""Which SQLSTATEs the front end treats specially. The classes themselves live in ``sql.errors``.

Source: PostgreSQL docs, appendix "PostgreSQL Error Codes".
"""

from typing import Final

INTERNAL_ERROR: Final = "XX000"

# After one of these the session cannot go on, whoever raised it: severity FATAL, then close.
SESSION_ENDING: Final = frozenset({"57P01", "57P02", "57P04", "57P05", "25P03"})
