"""Peers and callers that misbehave: each holds up only its own traffic, and nothing leaks."""
