"""``python -m nodedb``."""

import sys

from nodedb.cli.main import main

sys.exit(main())
