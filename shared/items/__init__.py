"""Table `resources`: items that were polled, newest first, and the order in which they arrived."""
