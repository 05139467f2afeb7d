"""Events: their table, fields and ids, receiving and storing them; no effect of an event lives here."""
