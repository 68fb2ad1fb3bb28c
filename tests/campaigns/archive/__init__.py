"""The archive's proof: generated days, planted faults of the sink, kills at every step."""
