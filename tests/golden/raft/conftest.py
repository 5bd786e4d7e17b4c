"""Makes the shared helpers importable, and the verbs."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "lib"), str(Path(__file__).parent)]
