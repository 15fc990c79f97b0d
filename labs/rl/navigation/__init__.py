"""An environment: a robot that must reach a goal in a room with obstacles.

Importing this package registers ``labs/NavigationGoal-v0`` and ``-v1`` with gymnasium.
"""

import gymnasium

from labs.rl.navigation.tasks import TASKS

for _version in TASKS:
    gymnasium.register(
        id=f"labs/NavigationGoal-v{_version}",
        entry_point="labs.rl.navigation.environment:NavigationGoalEnv",
        vector_entry_point="labs.rl.navigation.environment:NavigationGoalVectorEnv",
        kwargs={"version": _version},
    )
