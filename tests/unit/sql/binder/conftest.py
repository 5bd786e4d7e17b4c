import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3] / "lib"), str(Path(__file__).parent)]
