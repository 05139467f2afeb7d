"""One budget of PBX calls for all instances, kept in table `budget`."""
