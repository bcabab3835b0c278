"""The papers that this tool grew from, one file each: what the paper says, what we find, and its figures."""
