"""PostgreSQL: engine, declarative base, revisions. Feature folders hold the tables."""
