"""Values of the ledger: genesis, parameters, rules, transactions, accounts and their state."""
