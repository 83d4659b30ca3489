"""Jobs: path in, path out. Each command of the CLI is one function here.

A job computes nothing itself. It opens tables, decides whether its output is current, calls the
layers below, and publishes the result in one step.
"""
