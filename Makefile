# SPDX-License-Identifier: GPL-2.0
#
# Each command that a person types. The work is done in scripts/.

.DEFAULT_GOAL := modules

modules: ## build tuntap_ring.ko and vhost_net.ko
	@scripts/kernel modules

.PHONY: modules
