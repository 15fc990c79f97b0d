"""A task seen as an image: a robot (red) on a grid walks to a goal (green), around pits (blue).

In the directory of this file: python .../train_agent.py --env pixel_goal:examples/PixelGoal-v0
"""

import gymnasium
import numpy as np
from gymnasium import spaces


class PixelGoal(gymnasium.Env):
    MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, cells: int = 5, pits: int = 2, scale: int = 3, render_mode=None) -> None:
        self.cells, self.pits, self.scale, self.render_mode = cells, pits, scale, render_mode
        self.observation_space = spaces.Box(0, 255, (cells * scale, cells * scale, 3), np.uint8)
        self.action_space = spaces.Discrete(len(self.MOVES))

    def render(self):
        image = np.zeros((self.cells, self.cells, 3), np.uint8)
        for k, place in enumerate((self.robot, self.goal, *self.holes)):
            image[(*place, min(k, 2))] = 255
        return image.repeat(self.scale, 0).repeat(self.scale, 1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        drawn = self.np_random.choice(self.cells**2, 2 + self.pits, replace=False)
        self.robot, self.goal, *self.holes = (divmod(int(k), self.cells) for k in drawn)
        return self.render(), {}

    def step(self, action):
        moved = zip(self.robot, self.MOVES[action], strict=True)
        self.robot = tuple(min(max(k + move, 0), self.cells - 1) for k, move in moved)
        arrived, fell = self.robot == self.goal, self.robot in self.holes
        info = {"is_success": arrived, "collision": fell}
        return self.render(), arrived - fell - 0.02, arrived or fell, False, info


gymnasium.register("examples/PixelGoal-v0", PixelGoal, max_episode_steps=40)
