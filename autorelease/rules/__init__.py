"""The rules: what has expired, what is planned, refused and believed. Pure: they know the model alone.

No clock, no file, no database.
"""
