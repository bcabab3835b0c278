"""The fast path: the work of survey and statistics done by compiled code, bit for bit as the plain path does it."""
