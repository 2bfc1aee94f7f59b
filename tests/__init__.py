"""Tests. They mirror the modules; what they share is in ``tests.support``."""
