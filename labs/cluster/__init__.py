"""Where machines come from: an AWS account, and plans of time and cost."""
