"""The blockless ledger of IoT data."""
