"""Job queues that carry the ids of runs to workers."""
