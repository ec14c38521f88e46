"""``dipnet``, the client program."""
