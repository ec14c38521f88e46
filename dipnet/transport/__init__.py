"""Bytes between nodes: py-libp2p in a thread of its own, behind bounded queues."""
