"""The PBX's API: operations and resources as tables, one client, one budget of calls. It has no events."""
