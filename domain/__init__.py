"""What users derive from: events, aggregates, projections, and the errors. Standard library only, no I/O."""
