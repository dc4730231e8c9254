# Measurements; docs/performance.md tells how they are made and what they showed.
.PHONY: bench-service
bench-service: tests/e2e/node_modules/.package-lock.json $(programs) ## the service under load → build/bench/service.jsonl
	$(Q)PTQ_BUILD=$(abspath $(B)) node bench/service.mjs
