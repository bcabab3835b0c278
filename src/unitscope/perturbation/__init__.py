"""Perturbation: noise or silence in chosen units, and what the network loses by it."""
