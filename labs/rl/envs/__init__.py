"""Any gymnasium environment, in the form that agents learn from."""
