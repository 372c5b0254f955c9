"""The Grafana dashboards as code: `python -m dashboards` writes dashboards/*.json, which compose provisions."""
