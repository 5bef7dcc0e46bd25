"""What is compared; each side is a program of its own, so that processor time and peak memory belong to it alone.

Run by ``python -m tests.benchmarks.sides.<side> <action>``, with the arguments as JSON on its standard input.
"""
