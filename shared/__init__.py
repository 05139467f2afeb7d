"""Everything the app knows and does; never imports azure.functions."""
