"""OPC UA: subscriptions and polling with our own list of items; `settings` loads no protocol library."""
