"""Reinforcement learning: environments, networks, replay, DQN, PPO, rollouts, evaluation."""
