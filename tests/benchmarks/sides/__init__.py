"""The sides of a comparison. Each is a separate program, so processor time and peak memory are its own.

Run by ``python -m tests.benchmarks.sides.<side> <action>``, with the arguments as JSON on its standard input.
"""
