"""Who holds a delegate's key, and the file of what the key has signed."""
