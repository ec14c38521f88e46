"""Libraries for clients: JSON-RPC, devices, keys, light clients; nothing of the node."""
