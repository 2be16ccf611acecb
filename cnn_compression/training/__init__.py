"""Photographs -> a model: `config` says how, `data` feeds, `loop` trains, `evaluation` tells."""
