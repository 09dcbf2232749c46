"""Transformations made of graphs."""
