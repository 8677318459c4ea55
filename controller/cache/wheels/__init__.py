"""Wheels by digest: `store` keeps them and their trees, `inspection` decides if one is served."""
