"""What the PBX is asked for on a schedule, and how far each list has been read; nothing here serves callers."""
