"""Photographs -> a model: `config` says how, `data` feeds, `trainer` does the steps, `loop` the run.

`run_files` keeps what a run depends on in its folder, `evaluation` tells how it does.
"""
