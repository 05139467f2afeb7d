"""Table `calls`: one row a call, merged from its events."""
