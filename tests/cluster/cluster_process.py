"""A Ray cluster of several nodes in a process of its own, which obeys lines on standard input.

``ray.cluster_utils.Cluster`` leaves clients behind that end their process a minute after the cluster
is gone: it must not be the process of the tests.
"""

from __future__ import annotations

import sys

from ray._private.node import Node
from ray.cluster_utils import Cluster

import labs.runtime  # noqa: F401  (sets Ray's environment before ray is imported)


def main() -> None:
    """A head without room for trials, and two nodes with two (fake) GPUs each."""
    head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes: list[Node] = []

    def complete() -> None:
        while len(nodes) < 2:
            nodes.append(cluster.add_node(num_cpus=4, num_gpus=2))

    complete()
    print("address", cluster.address, flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "kill":  # without a word, as a reclaimed instance goes
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        elif command == "complete":
            complete()
        elif command == "add":
            nodes.append(cluster.add_node(num_cpus=1, node_ip_address=arguments[0]))
        print("did", command, flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
