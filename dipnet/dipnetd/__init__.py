"""``dipnetd``, the node program."""
