"""What the chain keeps: genesis, parameters, transactions, accounts and their state."""
