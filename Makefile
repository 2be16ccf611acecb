# make demo       compress and restore a real photograph, into out/
# make test       ruff and the suite without what is slow
# make test-slow  the rest: commands that are killed, fuzzing, effort, a browser, large graphs
# make test-313   what hangs on Python, TensorFlow or Pillow once more, on Python 3.13, which has
#                 no tensorflow-io; tests/both_pythons.py says which tests those are
# make web        a page that restores photographs by itself, at 127.0.0.1:8080; needs npm
# make model DATA="folders of photographs"
#                 trains the default model anew into runs/default, in five hours on two cores;
#                 goes on where it was stopped
# make eyes DATA="..."  the model for the eye, from the default one, into runs/eyes, in an hour
#
# PYTHON and PYTHON313 name the interpreters; without them they are looked for.

PYENV_VERSIONS := $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/*/bin/python3)

# $(call find_python,FROM,BELOW,CANDIDATES): the path of the first candidate
# that is of such a version (311 is 3.11). Each is run rather than asked for its
# name, since pyenv puts shims on the PATH for versions that are not active; one
# that can make virtual environments is preferred to an earlier one that cannot.
find_python = $(shell for needs in sys,venv,ensurepip sys; do for python in $(3); do \
  "$$python" -c "import $$needs; v = sys.version_info; n = 100 * v[0] + v[1]; \
  $(1) <= n < $(2) or sys.exit(1); print(sys.executable)" 2>/dev/null && exit; done; done)

PYTHON ?= $(call find_python,311,313,python3 python python3.12 python3.11 $(PYENV_VERSIONS))
PYTHON313 ?= $(call find_python,313,314,python3 python3.13 $(PYENV_VERSIONS))

PIP_FLAGS := --disable-pip-version-check --no-input $(if $(CI),--quiet --progress-bar=off)

# $(call make_venv,FOLDER,PYTHON,VERSIONS): the package, editable, with what
# its tests and its demo need.
define make_venv
	@test -n "$(2)" || { echo "No Python $(3) found on this machine." \
	  "Install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(2)" -c "import venv, ensurepip" 2>/dev/null || { echo "$(2) has no venv or ensurepip." \
	  "Install them (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Installing into $(1) with $$("$(2)" --version) ($(2)): TensorFlow takes a few minutes"
	"$(2)" -m venv $(1)
	$(1)/bin/python -m pip install $(PIP_FLAGS) --editable '.[dev]'
	@touch $@
endef

.PHONY: demo test test-slow test-313 lint web model eyes have-313 clean

demo: .venv/installed
	.venv/bin/cnn-compression demo --output=out

# Two processes and more: what tests share is made once, see tests/conftest.py.
PYTEST := -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile

test: lint
	.venv/bin/python $(PYTEST) -m "not slow"

test-slow: .venv/installed
	.venv/bin/python $(PYTEST) -m slow

lint: .venv/installed
	.venv/bin/ruff check .

test-313: .venv313/installed
	.venv313/bin/python $(PYTEST) -m both_pythons

web: web/built/index.html
	.venv/bin/python web/serve.py --port=$(or $(PORT),8080)

web/node_modules/.package-lock.json: web/package-lock.json
	npm ci --prefix web

WEB := $(wildcard web/*.js web/*.py web/gallery/* \
  saved_models/default/*/saved_model.pb saved_models/eyes/*/saved_model.pb)

web/built/index.html: .venv/installed web/node_modules/.package-lock.json $(WEB)
	.venv/bin/python web/build.py

TRAIN := .venv/bin/cnn-compression train --rec=inner_filters=80,inner_blocks=5 --batch_size=8 \
  --warmup_steps=200 --optimizer=muon --learning_rate=1e-3 --loss_power=0.8 --precision=bfloat16

model: .venv/installed
	@test -n "$(DATA)" || { echo 'Expected DATA="folders of photographs". Received none' >&2; exit 1; }
	$(TRAIN) --output=runs/quarter --scale=4 --steps=5500 --finish_steps=500 --rate_weight=64 \
	  --rate_power=1 --min_quality=4 --max_quality=85 --preview_psnr=21 $(DATA)
	$(TRAIN) --output=runs/half --scale=2 --steps=14000 --finish_steps=700 --rate_weight=16 \
	  --rate_power=1 --min_quality=4 --max_quality=75 --preview_psnr=22 $(DATA)
	$(TRAIN) --output=runs/half2 --init=runs/half --seed=2 --scale=2 --steps=13000 \
	  --finish_steps=700 --learning_rate=7e-4 --rate_weight=16 --rate_power=1 --min_quality=4 \
	  --max_quality=80 --preview_psnr=22 --grey_fraction=0.12 $(DATA)
	$(TRAIN) --output=runs/full --scale=1 --steps=14000 --finish_steps=700 --rate_weight=1 \
	  --rate_power=2 --min_quality=10 --max_quality=98 --preview_psnr=22 $(DATA)
	$(TRAIN) --output=runs/full2 --init=runs/full --seed=2 --scale=1 --steps=8500 \
	  --finish_steps=600 --learning_rate=7e-4 --rate_weight=1 --rate_power=2 --min_quality=10 \
	  --max_quality=98 --preview_psnr=22 --grey_fraction=0.12 $(DATA)
	.venv/bin/cnn-compression export runs/quarter runs/half2 runs/full2 --name=default --output=runs \
	  --ranges=1-42:8-84,13-66:7-89,51-100:13-97 --handovers=24.8-2.57,14-1.35

EYES := .venv/bin/cnn-compression train --distortion=eyes --batch_size=8 --warmup_steps=50 \
  --optimizer=muon --learning_rate=7e-4 --loss_power=0.8 --precision=bfloat16
EYES1 := $(EYES) --init=default --seed=4 --ema_decay=0.995
EYES2 := $(EYES) --seed=5 --ema_decay=0.998
EYES_FULL := --scale=1 --rate_weight=1 --rate_power=2 --min_quality=10 --max_quality=98 \
  --preview_psnr=22 --grey_fraction=0.12
EYES_HALF := --scale=2 --rate_weight=16 --rate_power=1 --min_quality=4 --max_quality=80 \
  --preview_psnr=22 --grey_fraction=0.12
EYES_QUARTER := --scale=4 --rate_weight=64 --rate_power=1 --min_quality=4 --max_quality=85 \
  --preview_psnr=21

eyes: .venv/installed
	@test -n "$(DATA)" || { echo 'Expected DATA="folders of photographs". Received none' >&2; exit 1; }
	$(EYES1) $(EYES_FULL) --output=runs/eyes_full --steps=1000 --finish_steps=80 $(DATA)
	$(EYES2) $(EYES_FULL) --output=runs/eyes_full2 --init=runs/eyes_full --steps=4000 \
	  --finish_steps=200 $(DATA)
	$(EYES1) $(EYES_HALF) --output=runs/eyes_half --steps=600 --finish_steps=60 $(DATA)
	$(EYES2) $(EYES_HALF) --output=runs/eyes_half2 --init=runs/eyes_half --steps=1500 \
	  --finish_steps=100 $(DATA)
	$(EYES1) $(EYES_QUARTER) --output=runs/eyes_quarter --steps=500 --finish_steps=60 $(DATA)
	$(EYES2) $(EYES_QUARTER) --output=runs/eyes_quarter2 --init=runs/eyes_quarter --steps=1000 \
	  --finish_steps=80 $(DATA)
	.venv/bin/cnn-compression export runs/eyes_quarter2 runs/eyes_half2 runs/eyes_full2 --name=eyes \
	  --output=runs --ranges=1-36:8-81,17-65:8-92,52-100:18-97 --handovers=37.4-5.97,18.9-1.14

# For scripts: succeeds where test-313 has an interpreter to run on.
have-313:
	@test -n "$(PYTHON313)"

clean:
	rm -rf .venv .venv313 build dist *.egg-info out web/node_modules web/built

.venv/installed: setup.cfg pyproject.toml
	$(call make_venv,.venv,$(PYTHON),3.11-3.12)

.venv313/installed: setup.cfg pyproject.toml
	$(call make_venv,.venv313,$(PYTHON313),3.13)
