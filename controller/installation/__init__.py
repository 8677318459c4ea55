"""The service's files on a machine: `units` lays them down and takes them away."""
