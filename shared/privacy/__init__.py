"""How long history is kept, and how a month of it is handed over and dropped; owns the choice, not the tables."""
