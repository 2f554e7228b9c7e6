"""The gateway: sends chat requests to the worker that keeps their instance warm. An affinity, never a correctness rule:
any worker answers any instance. Holds no database connection.
"""
