"""The node: events in, effects out. The only room where consensus, DAG and peers meet."""
