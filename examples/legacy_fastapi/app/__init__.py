"""The application: models in a dict, filled from models.yaml."""
