"""The queue in Redis or Valkey: Sidekiq's own keys, and what Sidekiq has no word for under `hf:`."""
