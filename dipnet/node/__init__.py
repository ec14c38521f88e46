"""The node: events in, effects out. The only folder that imports consensus, DAG and peers."""
