"""Makes the modules beside the oracle test importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
