"""Photographs -> a model: `config` says how, `data` feeds, `trainer` steps, `loop` is a whole run.

`run_files` keeps in a run's folder what it depends on, `evaluation` tells how it does.
"""
