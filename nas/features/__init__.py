"""What networks read: raw inputs, steps, pipelines, the bank of candidates."""
