"""What the pipeline iris learned. Nothing of this is imported; build backends want the file."""
