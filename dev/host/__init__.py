"""A local Azure Functions host on Microsoft's own Python worker library."""
