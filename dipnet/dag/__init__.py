"""The DAG: signed readings of devices, without blocks (docs/spec/dag.md)."""
