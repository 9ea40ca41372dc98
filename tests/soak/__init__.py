"""A router under a mixed load for a long time: nothing grows, nothing is lost, nothing comes twice."""
