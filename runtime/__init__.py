"""The engine, and Ray around it: actors, views, routing, starting and joining apps."""
