# What needs node: the lint of the OpenAPI document, and the end-to-end tests.
node_env := REDOCLY_TELEMETRY=off
modules  := tests/e2e/node_modules/.package-lock.json

$(modules): tests/e2e/package.json tests/e2e/package-lock.json
	$(Q)cd tests/e2e && npm ci --ignore-scripts --no-audit --no-fund >/dev/null && touch node_modules/.package-lock.json

.PHONY: lint-api
lint-api: $(modules) ## lint api/openapi.yaml
	$(Q)cd tests/e2e && $(node_env) npx redocly lint --config redocly.yaml ../../api/openapi.yaml

.PHONY: e2e
e2e: $(modules) $(programs) ## the end-to-end tests
	$(Q)if [ ! -e $(B)/ptqd ] || [ ! -e $(B)/ptq-worker ]; then \
	  echo "end-to-end tests not run: ptqd or ptq-worker is not there yet"; \
	  echo "0 passed, 0 failed, 0 skipped"; \
	else cd tests/e2e && node --test --test-reporter=spec *.test.mjs; fi
