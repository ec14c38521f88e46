"""Libraries for clients: JSON-RPC, devices, keys, light clients. They need no node installed."""
