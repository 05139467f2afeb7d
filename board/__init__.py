"""The page at /api/board, where people see calls, call back, and look after the bridge."""
