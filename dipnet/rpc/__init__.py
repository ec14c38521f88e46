"""JSON-RPC, WebSocket, health and metrics on one port."""
