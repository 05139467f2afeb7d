"""The data account: clients, rows, messages and dead letters; knows nothing of phones."""
