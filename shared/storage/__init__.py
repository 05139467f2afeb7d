"""The data account: clients, rows, messages, leases and dead letters; knows nothing of phones."""
