# What needs node: the lint of the OpenAPI document, and the end-to-end tests.
node_env := REDOCLY_TELEMETRY=off
modules  := tests/e2e/node_modules/.package-lock.json

$(modules): tests/e2e/package.json tests/e2e/package-lock.json
	$(Q)cd tests/e2e && npm ci --ignore-scripts --no-audit --no-fund >/dev/null && touch node_modules/.package-lock.json

.PHONY: lint-api
lint-api: $(modules) ## lint api/openapi.yaml
	$(Q)cd tests/e2e && $(node_env) npx redocly lint --config redocly.yaml ../../api/openapi.yaml

.PHONY: e2e e2e-long
# Node's own runner, one file after the other, so that servers do not disturb each other.
run_e2e = if [ ! -e $(B)/ptqd ] || [ ! -e $(B)/ptq-worker ]; then \
	  echo "end-to-end tests not run: ptqd or ptq-worker is not there yet"; \
	  echo "0 passed, 0 failed, 0 skipped"; \
	else cd tests/e2e && PTQ_BUILD=$(abspath $(B)) $(node_env) node --test --test-reporter=spec $(1); fi
e2e: $(modules) $(programs) ## the end-to-end tests (T=file: tests/e2e/<file>.test.mjs)
	$(Q)$(call run_e2e,$(if $(T),$(T).test.mjs,*.test.mjs))
e2e-long: $(modules) $(programs)
	$(Q)$(call run_e2e,$(if $(T),long/$(T).test.mjs,long/*.test.mjs))
