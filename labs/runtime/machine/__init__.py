"""The machine and Ray: resources, what a trial may use of them, and connecting to Ray."""
