"""The transport of bytes between nodes: py-libp2p in its own thread behind bounded queues."""
