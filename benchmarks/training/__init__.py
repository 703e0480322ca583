"""How fast models are trained."""
