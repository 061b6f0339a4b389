"""A sweep: the effects that follow a decision, from the first intent to the report."""
