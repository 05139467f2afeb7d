"""Events: their table, fields and ids, and how they are received and stored, without their effects."""
