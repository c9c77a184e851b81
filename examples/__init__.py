"""Runnable programs; each says in its docstring what it shows."""
