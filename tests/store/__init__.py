"""Tests of the store: one contract on every server, and each module on its own."""
