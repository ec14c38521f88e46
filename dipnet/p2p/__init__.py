"""The peer protocols as machines without sockets."""
