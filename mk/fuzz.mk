# Fuzzing: every tests/fuzz/fuzz_<name>.c is a libFuzzer program over this project's own sources,
# compiled by clang with coverage, ASan and UBSan (build/fuzz). What a run finds that is new goes
# into build/fuzz/corpus; an input that fails is build/fuzz/crash-….
FUZZ_SECONDS ?= 60
fuzzers := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: fuzz fuzz-all
fuzz: setup-test ## fuzz each parser for FUZZ_SECONDS (T=name: that one)
	$(Q)$(MAKE) --no-print-directory FUZZ=1 fuzz-all

ifeq ($(FUZZ),1)
fuzz-all: $(patsubst %,fuzz-%,$(if $(T),$(T),$(fuzzers)))
fuzz-%: $(B)/fuzz_%
	@mkdir -p $(B)/corpus/$*
	@echo "fuzz_$*: $(FUZZ_SECONDS) s"
	$(Q)$(unit_env) $< -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=2048 -max_len=200000 \
	  -print_final_stats=1 -artifact_prefix=$(B)/ $(B)/corpus/$* $(wildcard tests/fuzz/corpus/$*) > $(B)/fuzz_$*.log 2>&1 || \
	  { tail -60 $(B)/fuzz_$*.log; exit 1; }
	$(Q)grep -E 'number_of_executed|peak_rss' $(B)/fuzz_$*.log; grep ' cov: ' $(B)/fuzz_$*.log | tail -1
$(B)/fuzz_%: $(B)/obj/tests/fuzz/fuzz_%.o $(B)/libworker.a $(B)/libserver.a $(B)/libcommon.a
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(libs_worker) $(libs_server) $(libs_common) $(rt_builtins)
endif
