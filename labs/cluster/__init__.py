"""Clusters: an AWS account, jobs on a cluster, and estimates of time and cost."""
