"""Recording: from a network and images to a record, and back from a record to its images."""
