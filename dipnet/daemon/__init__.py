"""The loop around the node: inbox, step, effects performed in order."""
