"""Release expired VM allocations: the hourly sweep that never releases one that has not expired."""

__version__ = "0.1.0"
