# Tests. `make unit T=text` runs the unit tests whose name holds the text.
T ?=
PTQ_MODELS ?= $(abspath ../shared/models)
# One BLAS thread: the tests fork, and run two at a time.
unit_env := OPENBLAS_NUM_THREADS=1
# Each part is a make of its own, which takes all cores; tally stands between, so no jobserver is shared.
part := MAKELEVEL=0 MAKEFLAGS= $(MAKE) --no-print-directory $(MAKEOVERRIDES)

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
	  "unit tests on older processors" "$(part) unit-levels" \
	  "ONNX's node tests" "$(part) conformance" \
	  "layers" "$(part) check-layers" \
	  "unit tests, sanitized" "$(part) SAN=1 unit" \
	  "end-to-end tests" "$(part) e2e"

test-models: setup-test ## the tests that need the model collection (PTQ_MODELS=folder)
	$(Q)scripts/tally "unit tests over models" "$(part) unit-models"

test-long: setup-test ## what takes longer: the comparison with ONNX Runtime, kill storms, load, fuzzing
	$(Q)scripts/tally "long unit tests" "$(part) unit-long" "comparison with ONNX Runtime" "$(part) peer" "fake-quant against ONNX Runtime" "$(part) peer-fakequant" \
	  "kill storm and load" "$(part) e2e-long" "fuzzing" "$(part) fuzz"

setup-test:
	$(Q)scripts/setup test

unit-models: $(B)/unit-tests
	$(Q)rm -f $(B)/accuracy.md; $(unit_env) PTQ_MODELS=$(PTQ_MODELS) PTQ_TABLES=$(abspath $(B)) \
	  $< -t 300 -g models $(T) > $(B)/unit-models.txt; rc=$$?; \
	cat $(B)/accuracy.md 2>/dev/null; cat $(B)/unit-models.txt; exit $$rc
unit-long: $(B)/unit-tests
	$(Q)$(unit_env) $< -t 900 -g long $(T)

unit: $(B)/unit-tests ## the unit tests (T=text: those whose name holds it; SAN=1: sanitized)
	$(Q)$(unit_env) $< $(T)

# The same objects on older processors: what dispatches by instruction set takes the lower levels.
level_tests := backend__ fast__ unary__ binary__ reduce__ resize__ norm__ fakequant__ metrics__ exec__
on_baseline := PTQ_LEVEL=baseline ONEDNN_MAX_CPU_ISA=SSE41 DNNL_MAX_CPU_ISA=SSE41 OPENBLAS_CORETYPE=Nehalem
on_avx2     := PTQ_LEVEL=x86-64-v3 ONEDNN_MAX_CPU_ISA=AVX2 DNNL_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell
.PHONY: unit-levels unit-baseline unit-avx2
unit-levels: $(B)/unit-tests-1 $(B)/unit-tests-3 ## the kernels' tests without AVX-512, and without AVX2
	$(Q)scripts/tally "x86-64" "$(part) unit-baseline" "AVX2" "$(part) unit-avx2"
unit-baseline: $(B)/unit-tests-1
	$(Q)$(unit_env) $(on_baseline) $< $(level_tests)
unit-avx2: $(B)/unit-tests-3
	$(Q)$(unit_env) $(on_avx2) $< $(level_tests)
$(B)/obj/tests/cpu_level_%.o: tests/cpu_level.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -DCPU_LEVEL=$* -c $< -o $@

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

parts_unit := $(obj_unit) $(call obj,tests/runner.c tests/checks.c) $(B)/obj/gen/tests_table.o \
              $(B)/libworker.a $(B)/libserver.a $(B)/libcli.a $(B)/libcommon.a
libs_unit   = $(libs_worker) $(libs_server) $(libs_cli) $(libs_common)
$(B)/unit-tests: $(parts_unit)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(libs_unit)
$(B)/unit-tests-%: $(B)/obj/tests/cpu_level_%.o $(parts_unit)
	$(Q)$(CC) $(LDFLAGS) -Wl,--wrap=__cpu_indicator_init -o $@ $^ $(libs_unit)
