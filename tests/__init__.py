"""The tests mirror src/unitscope; oracles/ holds the slow certain way, papers/ the numbers in print."""
