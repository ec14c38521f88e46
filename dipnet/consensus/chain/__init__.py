"""Blocks: form, rules, execution and production; the pool; the chain on disk."""
