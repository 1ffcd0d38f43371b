"""Deployment of the HTTP application on a cluster, with Ray Serve."""
