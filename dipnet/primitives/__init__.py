"""Values and bytes: refusals, records and RLP, hashes and keys, bounded JSON."""
