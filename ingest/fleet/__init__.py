"""An instance that gets its shards from Kafka (``K2_SHARD_INDEX=auto``): a supervisor with a child process for each."""
