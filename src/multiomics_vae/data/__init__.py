"""From a MuData to minibatches: registration, checks, alignment by name, schema, loading."""
