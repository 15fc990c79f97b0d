"""Where version 0.1 had ``AgentConfig``: code that imports it from here still works."""

from labs.rl.agents.config import AgentConfig

__all__ = ["AgentConfig"]
