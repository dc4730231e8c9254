# Tests. `make unit T=text` runs the unit tests whose name holds the text.
T ?=
PTQ_MODELS ?= $(abspath ../shared/models)
# One BLAS thread: the tests fork, and run two at a time.
unit_env := OPENBLAS_NUM_THREADS=1
# Each part is a make of its own, which takes all cores; tally stands between, so no jobserver is shared.
part := MAKEFLAGS= $(MAKE) --no-print-directory $(MAKEOVERRIDES)

obj_unit := $(call obj,$(src_unit))
# A test needs no prototype: the table made from the symbols declares it.
$(B)/obj/tests/%.o: CFLAGS += -Wno-missing-prototypes

.PHONY: test test-models test-long unit unit-models unit-long setup-test
# Every part runs even when one before it failed; the last line is the sum.
test: setup-test ## all that must pass before a change lands, under ten minutes
	$(Q)scripts/tally \
	  "format" "$(part) check-format" \
	  "headers" "$(part) check-headers" \
	  "OpenAPI" "$(part) lint-api" \
	  "unit tests" "$(part) unit" \
	  "ONNX's node tests" "$(part) conformance" \
	  "layers" "$(part) check-layers" \
	  "unit tests, sanitized" "$(part) SAN=1 unit" \
	  "end-to-end tests" "$(part) e2e"

test-models: setup-test ## the tests that need the model collection (PTQ_MODELS=folder)
	$(Q)scripts/tally "unit tests over models" "$(part) unit-models"

test-long: setup-test ## what takes longer: the comparison with ONNX Runtime, kill storms, load, fuzzing
	$(Q)scripts/tally "long unit tests" "$(part) unit-long" "comparison with ONNX Runtime" "$(part) peer" \
	  "kill storm and load" "$(part) e2e-long" "fuzzing" "$(part) fuzz"

setup-test:
	$(Q)scripts/setup test

unit-models: $(B)/unit-tests
	$(Q)$(unit_env) PTQ_MODELS=$(PTQ_MODELS) $< -t 300 -g models $(T)
unit-long: $(B)/unit-tests
	$(Q)$(unit_env) $< -t 900 -g long $(T)

unit: $(B)/unit-tests ## the unit tests (T=text: those whose name holds it; SAN=1: sanitized)
	$(Q)$(unit_env) $< $(T)

# Changes only when a file comes or goes.
$(B)/gen/tests.list: FORCE
	@mkdir -p $(@D)
	$(Q)echo '$(obj_unit)' | cmp -s - $@ || echo '$(obj_unit)' > $@
.PHONY: FORCE

$(B)/gen/tests_table.c: $(obj_unit) $(B)/gen/tests.list mk/test.mk
	@mkdir -p $(@D)
	$(Q){ echo '#include "tests/test.h"'; \
	  nm -g --defined-only $(obj_unit) | awk '$$2 == "T" && $$3 ~ /^test_.*__/ { print $$3 }' | sort > $@.names; \
	  sed 's/.*/void &(void);/' $@.names; \
	  echo 'const struct test_row test_table[] = {'; \
	  sed 's/test_\(.*\)/    {"\1", test_\1},/' $@.names; echo '    {0}};'; } > $@

$(B)/unit-tests: $(obj_unit) $(call obj,tests/runner.c tests/checks.c) $(B)/obj/gen/tests_table.o \
                 $(B)/libworker.a $(B)/libserver.a $(B)/libcli.a $(B)/libcommon.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(libs_worker) $(libs_server) $(libs_cli) $(libs_common)
