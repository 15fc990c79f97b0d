"""The place of ``AgentConfig`` in version 0.1; code that imports it from here still works."""

from labs.rl.agents.config import AgentConfig

__all__ = ["AgentConfig"]
