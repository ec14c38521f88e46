"""Cython doors to the C code in native/: typed, and without the GIL around batches."""
