"""Anatomy: what is known of a network without showing it anything: its sites and their receptive fields."""
