"""The OpenAPI 2.0 definition of /api/v2, derived from the tables; no path, name or shape is written here twice."""
