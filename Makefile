# SPDX-License-Identifier: GPL-2.0
#
# Each command that a person types. The work is done in scripts/.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := modules

##@ To begin with

demo: ## set everything up, and switch backpressure on and off during a flood (8 min; then 2 min)
	@demo/run

test: ## set everything up, and run the most telling tests of each kind (6 min; 15 min the first time)
	@scripts/test --level test

test-all: ## run every suite except kcsan, no-tap, rt and install; of debug, loads and real-guest a part (35 min; 60 min the first time)
	@scripts/test --level test-all

help: ## this list
	@scripts/help

##@ Building

modules: ## tuntap_ring.ko and its live patch of vhost_net, for Debian's kernel or KDIR=; `make` alone does this (10 s; 5 min the first time)
	@scripts/kernel modules

client: ## tuntap-ring, the tool for users, and tuntap-client, a guest without a VM for tests (45 s)
	@scripts/client build

docs: ## the documentation as HTML, and man pages (10 s; 1 min the first time)
	@scripts/docs build

##@ Installing

install: ## install the modules for KVER=, the running kernel, and tuntap-ring into /usr/local (5 s; INSTALL_MOD_PATH=)
	@packaging/install install

uninstall: ## remove what make install has installed (5 s)
	@packaging/install uninstall

sign: ## sign the modules, for Secure Boot, by KEY= and CERT=; before install (1 s)
	@packaging/install sign

deb: ## Debian packages of the modules, DKMS and the tool, in build/deb/ (1 min; 2 min the first time)
	@packaging/deb

##@ Testing

test-%: ## run one suite, whole, a folder below tests/:
	@scripts/test $*

torture: ## do to a device under traffic all that can be done, at random (SECONDS=60 SEED= CONSUMER=tuntap_ring BED=guest)
	@tests/torture/torture

##@ Measuring

bench: ## run every benchmark, and end with one table of goals (28 min; BENCH=full 4 h)
	@bench/run

bench-%: bench/%/run ## run one benchmark, a folder below bench/:
	@bench/$*/run

##@ Tidying

clean: ## remove what was built in this checkout
	rm -rf build

clean-cache: ## remove the build root and all that was downloaded
	@. scripts/lib.sh && rm -rf "$$CACHE"/root-* "$$CACHE"/herd-* "$$CACHE"/docs-* "$$CACHE"/machine-* "$$CACHE"/debian-* "$$CACHE"/kvm-* && echo "emptied $$CACHE"

.PHONY: demo test test-all help modules client docs install uninstall sign deb torture bench clean clean-cache
SHELL := /bin/bash
