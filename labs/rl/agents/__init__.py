"""DQN and PPO: arrays in, parameters and losses out."""
