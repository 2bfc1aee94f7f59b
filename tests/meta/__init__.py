"""Tests of names, on a store in memory."""
