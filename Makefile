# Thin names over tools/bootstrap.py, which makes .venv, chooses torch and builds what has changed.
# Without a network: make test ARGS="--no-index --find-links wheels"
PYTHON ?= python3

.PHONY: demo test clean

demo:
	$(PYTHON) tools/bootstrap.py demo $(ARGS)

test:
	$(PYTHON) tools/bootstrap.py test $(ARGS)

clean:
	rm -rf .venv build dist
