"""The former place of ``labs.plugins``."""

from labs.plugins import import_module, load_object

__all__ = ["import_module", "load_object"]
