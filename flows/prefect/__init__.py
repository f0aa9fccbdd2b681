"""Prefect: its server, deployments and artifacts."""
