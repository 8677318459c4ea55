"""For authors: `gates` tries a wheel, with `harness` for a replica; `scaffold` makes a project."""
