"""The machine: the store, settings, locks, Unix sockets, metrics."""
