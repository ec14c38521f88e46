"""Cython doors to native/: thin, typed, the GIL released around C."""
