"""The DPOS main chain: blocks, schedule, pool, fork choice."""
