"""One typed settings object: TOML file < environment < flags.

Every fault is reported at once, with its source.
"""

from nodedb.config.node_config import ConfigFaults, NodeConfig, load_config

__all__ = ["ConfigFaults", "NodeConfig", "load_config"]
