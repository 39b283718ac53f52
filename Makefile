# SPDX-License-Identifier: GPL-2.0
#
# The commands for users. Each runs a script.

MAKEFLAGS += --no-print-directory
# Scripts read the variables of the command line from the environment, and may unset them for another make.
MAKEOVERRIDES =
.DEFAULT_GOAL := modules

##@ To begin with

demo: ## set everything up and run the demo: backpressure on and off during a flood (6 min; then 2 min)
	@demo/run

test: ## set everything up and run the most important tests of each kind (6 min; 15 min the first time)
	@scripts/test --level test

test-all: ## run every suite except arm64, kcsan, no-tap, rt and install; some in part (35 min; 60 min the first time)
	@scripts/test --level test-all

help: ## this list
	@scripts/help

##@ Building

modules: ## build tuntap_ring.ko and the live patch, for Debian's kernel, ARCH=arm64 or KDIR=; the default (10 s; 5 min the first time)
	@scripts/kernel modules

client: ## build tuntap-ring, the tool for users, and tuntap-client, the vhost test driver (45 s)
	@scripts/client build

docs: ## build the documentation as HTML and man pages (10 s; 1 min the first time)
	@scripts/docs build

##@ Installing

install: ## install the modules for KVER=, the running kernel, and tuntap-ring into /usr/local (5 s; INSTALL_MOD_PATH=)
	@packaging/install install

uninstall: ## remove the files of make install (5 s)
	@packaging/install uninstall

sign: ## sign the modules for Secure Boot with KEY= and CERT=; before install (1 s)
	@packaging/install sign

deb: ## build Debian packages of the modules, DKMS and the tool, in build/deb/ (1 min; 2 min the first time)
	@packaging/deb

##@ Testing

test-%: ## run all of one suite, a folder below tests/; tests/NAME/run --help describes it:
	@scripts/test $*

torture: ## run random operations on a device under traffic (SECONDS=60 SEED= CONSUMER=tuntap_ring BED=guest)
	@tests/torture/torture

##@ Measuring

bench: ## run every benchmark and print one table of goals (28 min; BENCH=full 4 h)
	@bench/run

bench-%: bench/%/run ## run one benchmark, a folder below bench/; bench/NAME/run --help describes it:
	@bench/$*/run

##@ Tidying

clean: ## remove build/ of this checkout
	rm -rf build

clean-cache: ## remove the build root and all downloads
	@. scripts/lib.sh && rm -rf "$$CACHE"/root-* "$$CACHE"/herd-* "$$CACHE"/docs-* "$$CACHE"/machine-* "$$CACHE"/debian-* && echo "emptied $$CACHE"

.PHONY: demo test test-all help modules client docs install uninstall sign deb torture bench clean clean-cache
SHELL := /bin/bash
