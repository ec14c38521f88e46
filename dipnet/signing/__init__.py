"""The signer of a delegate's key, and the file of the key's vote state."""
