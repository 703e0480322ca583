"""Beam jobs and TFX pipelines."""
