"""The execution of one transaction."""
