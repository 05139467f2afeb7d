"""What an event is: its table, its fields, its id, how one is received and kept; no effect of an event lives here."""
