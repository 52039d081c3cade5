"""From anybody's robot logs to training shards: split, filter, annotate, remove duplicates, shard."""
