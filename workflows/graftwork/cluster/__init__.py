"""Steps on Kubernetes: one step pod makes one RayJob, follows it, and ends as it ended."""
