"""Training: rows to token shards, packed batches, one loop, checkpoints and export. Entering loads nothing heavy."""
