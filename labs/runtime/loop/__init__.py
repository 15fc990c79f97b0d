"""How trials are run: by Ray Tune or in this process, what is shown, and what stops them."""
