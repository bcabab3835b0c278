"""From records to measures. Never imports torch, never runs a network."""
