# make book   the book, from nothing: environment, chapters, pages
# make test   the tests and the style checks
# make quick  the style checks and the tests that neither train nor need a browser; before each commit
# make pdf    the built book as one file, _build/html/learning-to-grok.pdf; needs Chromium
# make lock   write requirements.lock anew, from the newest versions that pyproject.toml allows
# make clean  remove what was built; the environment and the runs stay

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 4

.PHONY: book test quick pdf lock clean

book: $(VENV)/.book
	@echo "The book: $(words $(wildcard notebooks/*.ipynb)) notebooks are executed from shipped runs, some 2 minutes on two cores of an AMD EPYC server; later builds redo what changed."
	PATH="$(CURDIR)/$(BIN):$$PATH" jupyter-book build book
	@echo "The book: $(CURDIR)/_build/html/index.html"

test: $(VENV)/.installed
	@echo "The tests: the book, and every notebook trained at the smallest scale; some 10 minutes on two cores."
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

quick: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) -m "not slow and not browser"

pdf: $(VENV)/.installed
	@echo "The PDF: Chromium prints every page of the built book, about a minute."
	$(BIN)/python scripts/pdf.py

# What the book needs, in the versions of the lock; a CPU-only or another CUDA build of the same torch can stand in for
# it. Compiling all of it would take longer than Python takes to compile what the book imports.
$(VENV)/.book: requirements.lock pyproject.toml
	@echo "The environment: some 100 packages, torch among them; a minute or two."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c requirements.lock setuptools
	$(BIN)/python -m pip install --quiet --no-compile --no-build-isolation -c requirements.lock -e ".[book]"
	@touch $@

$(VENV)/.installed: $(VENV)/.book
	@echo "The packages of the tests: some 20 more."
	$(BIN)/python -m pip install --quiet --no-compile -r requirements.lock
	@touch $@

# Without the system's own part of a version (torch 2.13.0+cpu): the lock serves every machine.
lock:
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet torch==2.13.0 -e ".[cli,book,sweep,test]"
	echo "# Exact versions of everything, with every extra; written by: make lock" >requirements.lock
	$(VENV)-lock/bin/python -m pip freeze --all --exclude-editable | \
		sed -e 's/+[a-z0-9.]*$$//' -e '/^\(pip\|wheel\)==/d' >>requirements.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf _build book/*.ipynb
